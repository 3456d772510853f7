"""One conversation per line, the shape that TRL, axolotl, LLaMA-Factory and ms-swift read as it is."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Literal

import polars as pl

from composer.conversation import whole
from composer.export.base import USUAL, Exporter, TrainedOn, config
from composer.progress import Bar, bar


class ChatJsonl(Exporter):
    """Write ``chat/train.jsonl``: UTF-8, one ``{"messages", "domain", "source"}`` per line, in the composition's order.

    A row with calls, thinking or names has them in its turns, and one with tools has them as ``tools``.
    """

    name: Literal["chat_jsonl"] = "chat_jsonl"
    summary: ClassVar[str] = "one JSON line per conversation, for any trainer that reads messages"
    reference: ClassVar[str] = "TRL, conversational format"

    def write(self, composition: Path, samples: Path, folder: Path, *, how: TrainedOn = USUAL) -> dict[str, Any]:  # noqa: ARG002
        """Write the file group by group and return its rows and bytes."""
        rows = self.rows(composition, samples, folder)
        path = folder / "chat" / "train.jsonl"
        with bar("export chat", total=len(rows)) as shown:
            write_lines(rows.groups(), path, shown=shown)
        return {"rows": len(rows), "n_bytes": path.stat().st_size}

    def configs(self, domains: Sequence[str]) -> list[dict[str, Any]]:  # noqa: ARG002
        """Return the one config of the file."""
        return [config("chat", "chat/train.jsonl")]


def write_lines(groups: Iterable[pl.DataFrame], path: Path, *, shown: Bar) -> None:
    """Write groups of exported rows as one conversation per line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for group in groups:
            _write(group.select("messages", "domain", "source", "extras"), file)
            shown.advance(len(group))


def _write(group: pl.DataFrame, file: BinaryIO) -> None:
    """Write stretches of plain rows at once and the others one by one."""
    for part in group.with_columns(stretch=pl.col("extras").is_not_null().rle_id()).partition_by("stretch", include_key=False):
        if part["extras"][0] is None:
            part.drop("extras").write_ndjson(file)
        else:
            file.writelines(_line(row) for row in part.iter_rows(named=True))


def _line(row: dict[str, Any]) -> bytes:
    """Return a row with everything that its turns carry as one line."""
    conversation = whole(row["messages"], row["extras"])
    fields = {"messages": conversation.turns, "domain": row["domain"], "source": row["source"]}
    if conversation.tools is not None:
        fields["tools"] = conversation.tools
    return (json.dumps(fields, ensure_ascii=False, separators=(",", ":")) + "\n").encode()
