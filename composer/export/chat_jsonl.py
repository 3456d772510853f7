"""One conversation per line, the shape that TRL, axolotl, LLaMA-Factory and ms-swift read as it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import polars as pl

from composer.export.base import Exporter, Rows, config


class ChatJsonl(Exporter):
    """Write ``chat/train.jsonl``: UTF-8, one ``{"messages", "domain", "source"}`` per line, in the composition's order."""

    name: Literal["chat_jsonl"] = "chat_jsonl"
    summary: ClassVar[str] = "one JSON line per conversation, for any trainer that reads messages"
    reference: ClassVar[str] = "TRL, conversational format"

    def write(self, composition: pl.DataFrame, samples: pl.DataFrame, folder: Path) -> dict[str, Any]:
        """Write the file slice by slice and return its rows and bytes."""
        rows = Rows(composition, samples)
        path = folder / "chat" / "train.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for part in rows.slices():
                part.select("messages", "domain", "source").write_ndjson(file)
        return {"rows": len(composition), "n_bytes": path.stat().st_size}

    def configs(self, domains: Sequence[str]) -> list[dict[str, Any]]:  # noqa: ARG002
        """Return the one config of the file."""
        return [config("chat", "chat/train.jsonl")]
