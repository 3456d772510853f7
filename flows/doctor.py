"""The doctor: reads everything that a recipe or a path names, changes nothing, and says what it found.

It goes the way of ingest, with the same functions, in a folder that it removes again; so what it reports is what a run will do.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from composer.conversation import whole
from composer.decontaminate import Decontaminate, find_contamination
from composer.dedup import Dedup, Part, describe, find_copies
from composer.encode import preview
from composer.errors import SourceError
from composer.ingest.licences import conflicts
from composer.ingest.reading import read
from composer.ingest.samples import IS_KEPT, Survey, survey
from composer.progress import say
from composer.types import LossOn, Source

EXAMPLES = 3  # of each reason in each source
PREVIEW = 3  # rows that are shown as the model reads them
EDGES = (32, 64, 128, 256, 512, 1_024, 2_048, 4_096, 8_192, 16_384, 32_768)
"""Upper edges of the bins of lengths."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is to be looked at; without a tokenizer lengths are told in characters and nothing is rendered."""

    sources: Sequence[Source]
    dedup: Dedup
    decontaminate: Decontaminate | None = None
    embed: Any = None
    tokenizer: Any = None
    max_length: int = 1_024
    loss_on: LossOn = "all"
    max_dropped: float | None = None


@dataclass(frozen=True)
class _Looked:
    """One source, as it was read."""

    source: Source
    folder: Path
    stats: dict[str, Any]
    survey: Survey | None

    def rows(self) -> Iterator[pl.DataFrame]:
        """Yield the rows that a run would keep."""
        if self.survey is None:
            yield from (pl.read_parquet(path) for path in sorted(self.folder.glob("rows-*.parquet")))
        else:
            yield from (rows.filter(IS_KEPT) for rows in self.survey.rows())

    @cached_property
    def examples(self) -> dict[str, list[dict[str, Any]]]:
        """The first dropped rows of each reason."""
        lost = pl.scan_parquet(self.folder / "dropped-*.parquet").select("row", "reason", "text").collect()
        if self.survey is not None:
            text = pl.struct("messages").struct.json_encode().alias("text")
            refused = [rows.filter(~IS_KEPT).select("row", "reason", text) for rows in self.survey.rows()]
            lost = pl.concat([lost, *refused]).sort("row")
        first = lost.group_by("reason", maintain_order=True).head(EXAMPLES).with_columns(pl.col("text").str.head(200))
        return {
            str(reason): rows.select("row", "text").to_dicts()
            for (reason,), rows in sorted(first.partition_by("reason", as_dict=True).items(), key=lambda item: str(item[0]))
        }


def examine(case: Case) -> dict[str, Any]:
    """Return everything that is to be said of a case, as plain JSON values.

    Returns
    -------
    ``sources``, one for each: ``name``, ``path``, ``seen = kept + repaired + sum(dropped)``, ``filtered``, ``repairs``,
    ``examples`` by reason, ``shapes``, ``licences``, ``lengths`` (unit, bins) and, with a tokenizer, ``tokens``,
    ``loss_tokens``, ``truncated``, ``adapted`` and ``not_carried``. ``duplicates`` and ``decontamination`` are the reports of
    the pool (:mod:`composer.dedup.copies`, :mod:`composer.decontaminate.find`), with the copies ``within`` each source;
    ``licences`` counts rows and names conflicts; ``preview`` holds rows as the model reads them; ``too_many_dropped`` names the
    sources above the threshold.
    """
    with tempfile.TemporaryDirectory(prefix="sft-composer-doctor-") as folder:
        looked = [_look(source, Path(folder) / f"{i:04}", case) for i, source in enumerate(case.sources)]
        parts = [_part(each) for each in looked if each.stats["samples"]]
        say("compare the rows of all sources")
        copies = find_copies(parts, dedup=case.dedup, embed=case.embed) if parts else None
        report = describe(copies.fates, parts, dedup=case.dedup) if copies else {}
        contamination = find_contamination(parts, spec=case.decontaminate).report if case.decontaminate and parts else {}
        sources = [_source(each, case) for each in looked]
        licences = _summed(each["licences"] for each in sources)
        return {
            "sources": sources,
            "duplicates": {
                "within": {each["name"]: n for each in sources if (n := each["dropped"].get("duplicate", 0))}, **report,
            },
            "decontamination": contamination,
            "licences": {"rows": licences, "conflicts": conflicts(licences)},
            "preview": _preview(looked, case),
            "max_dropped": case.max_dropped,
            "too_many_dropped": [each["name"] for each in sources if _is_too_much(each, case.max_dropped)],
        }  # fmt: skip


def dropped_share(source: dict[str, Any]) -> float:
    """Return the share of a source's rows that cannot be used; copies can, elsewhere, and do not count."""
    lost = sum(n for reason, n in source["dropped"].items() if reason != "duplicate")
    return lost / source["seen"] if source["seen"] else 0.0


def _is_too_much(source: dict[str, Any], most: float | None) -> bool:
    return most is not None and dropped_share(source) > most


def _look(source: Source, folder: Path, case: Case) -> _Looked:
    parts = folder / "parts"
    if case.tokenizer is None:
        return _Looked(source, parts, read(source, parts), None)
    counted = {"tokenizer": case.tokenizer, "max_length": case.max_length, "loss_on": case.loss_on}
    found = survey(source, parts, folder / "counts", **counted)
    return _Looked(source, parts, found.stats, found)


def _part(looked: _Looked) -> Part:
    return Part.of_read(looked.folder, source=looked.source.name, role=looked.source.role)


def _source(looked: _Looked, case: Case) -> dict[str, Any]:
    stats = looked.stats
    out = {
        "name": looked.source.name,
        "path": looked.source.path,
        **{name: stats[name] for name in ("seen", "kept", "repaired", "dropped", "filtered", "repairs", "shapes")},
        "examples": looked.examples,
        "licences": stats["licenses"],
        "lengths": _lengths(looked),
    }
    if case.tokenizer is not None:
        out |= {
            "tokens": stats["n_tokens"],
            "loss_tokens": stats["n_loss_tokens"],
            "no_loss_tokens": stats["dropped"].get("no_loss_tokens", 0),
            **{name: stats[name] for name in ("truncated", "adapted", "not_carried")},
        }
    return out


def _lengths(looked: _Looked) -> dict[str, Any]:
    """Return how many rows are how long: in tokens, or in characters where nothing counts tokens."""
    is_counted = looked.survey is not None
    text = pl.col("messages").list.eval(pl.element().struct.field("content").str.len_chars()).list.sum()
    length = pl.col("n_tokens") if is_counted else text
    labels = [*map(str, EDGES), "more"]
    bins = np.zeros(len(labels), dtype=np.int64)
    for rows in looked.rows():
        bins += np.bincount(np.searchsorted(EDGES, rows.select(length).to_series().to_numpy()), minlength=len(labels))
    at_most = {label: n for label, n in zip(labels, bins.tolist(), strict=True) if n}
    return {"unit": "tokens" if is_counted else "characters", "at_most": at_most}


def _preview(looked: Sequence[_Looked], case: Case) -> list[dict[str, Any]]:
    """Return the first rows of the first sources, in runs that are trained on, are not, or are cut off (null)."""
    if case.tokenizer is None:
        return []
    chosen: list[tuple[str, dict[str, Any]]] = []
    for place in range(PREVIEW):
        for each in looked:
            if len(chosen) < PREVIEW and (row := _nth(each, place)) is not None:
                chosen.append((each.source.name, row))
    return [
        {"source": name, "row": row["row"], "runs": _runs(row, case)} for name, row in chosen
    ]  # fmt: skip


def _nth(looked: _Looked, place: int) -> dict[str, Any] | None:
    for rows in looked.rows():
        if place < len(rows):
            return rows.row(place, named=True)
        place -= len(rows)
    return None


def _runs(row: dict[str, Any], case: Case) -> list[dict[str, Any]]:
    try:
        talk = whole(row["messages"], row["extras"])
        runs = preview(case.tokenizer, talk, max_length=case.max_length, loss_on=case.loss_on)
    except SourceError:  # counted rows are rendered, so this is a row that was only read
        return []
    return [{"text": text, "trained": trained} for text, trained in runs]


def _summed(counts: Iterator[dict[str, int]]) -> dict[str, int]:
    out: dict[str, int] = {}
    for each in counts:
        for name, n in each.items():
            out[name] = out.get(name, 0) + n
    return dict(sorted(out.items()))
