"""MosaicML streaming: MDS shards and the streams that read them, as LLM Foundry's ``train_loader`` has them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import polars as pl
from pydantic import Field

from composer.conversation import whole
from composer.export.base import TrainedOn
from composer.export.mds import SHARD, rows_of, write_shards
from composer.export.rows import Rows
from composer.export.rules import Numbers
from composer.export.rules.streams import WEIGHTS as WORDS
from composer.export.rules.streams import drawn, wanted
from composer.export.trainer import Part, Trainer
from composer.progress import Bar

ROWS = "The mix as it was composed: one stream, read once and in order (shuffle: false)."

WEIGHTS = """One stream per domain, every row once. choose is a number of rows of the epoch: whole passes, and the rest by
chance. proportion would be a share of the epoch's rows, repeat a number of passes; one of the three for a stream."""


class Streaming(Trainer):
    """Write ``streaming/streams.yaml`` and MDS shards of at most ``shard_bytes``."""

    name: Literal["streaming"] = "streaming"
    summary: ClassVar[str] = "MosaicML streaming: MDS shards, rows in order, or `choose` rows of every stream"
    reference: ClassVar[str] = "MosaicML streaming 0.13, `Stream`"
    home: ClassVar[str] = "streaming"
    main: ClassVar[str] = "streams.yaml"
    said: ClassVar[Mapping[str, str]] = {"rows": ROWS, "weights": WEIGHTS}
    suffix: ClassVar[str] = ""
    shard_bytes: int = Field(default=SHARD, ge=1_000, lt=1 << 32)

    def write_part(self, rows: Rows, part: Part, path: Path, *, shown: Bar) -> None:
        """Write the shards of one stream."""
        groups = rows.groups(domain=part.domain, once=part.domain is not None)
        write_shards(_samples(groups, shown), path, limit=self.shard_bytes)

    def configs(self, domains: Sequence[str]) -> list[dict[str, Any]]:  # noqa: ARG002
        """Return nothing: ``datasets`` does not read shards."""
        return []

    def files(self, parts: Sequence[Part], how: TrainedOn) -> dict[str, str]:
        """Return ``streams.yaml``."""
        weighed = self.carry == "weights"
        streams = {part.name: {"local": part.path, **({"choose": part.wanted} if weighed else {})} for part in parts}
        dataset = {
            "streams": streams, "shuffle": weighed, "shuffle_seed": self.seed, "max_seq_len": how.max_length,
            "target_prompts": "none", "target_responses": how.loss_on,
        }  # fmt: skip
        loader = {"name": "finetuning", "dataset": dataset}
        return {self.main: self.text({"train_loader": loader})}

    def paths(self, values: Any) -> Sequence[str]:
        """Return the streams' folders."""
        return [stream["local"] for stream in values["train_loader"]["dataset"]["streams"].values()]

    def numbers(self, values: Any, rows: Sequence[int], *, where: Path) -> Numbers:
        """Replay the first epoch before its shuffle."""
        dataset = values["train_loader"]["dataset"]
        seed = dataset.get("shuffle_seed", 9176)
        weights = [{word: stream[word] for word in WORDS if word in stream} for stream in dataset["streams"].values()]
        counts = wanted(rows, weights, epoch=dataset.get("epoch_size"), seed=seed)
        return drawn([rows_of(where.parent / path) for path in self.paths(values)], counts.tolist(), seed=seed)


def _samples(groups: Iterable[pl.DataFrame], shown: Bar) -> Iterator[dict[str, Any]]:
    for group in groups:
        for row in group.select("messages", "extras", "domain", "source").iter_rows(named=True):
            found = whole(row["messages"], row["extras"])
            yield {"messages": found.turns, "tools": found.tools, "domain": row["domain"], "source": row["source"]}
        shown.advance(len(group))
