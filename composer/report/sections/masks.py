"""Masks: how large a share of the entries may move, in every kind of matrix and every phase."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from composer.report.draw import Mark, Strip, heat, strips
from composer.report.numbers import count, share
from composer.report.record import Record
from composer.report.section import Chapter, Figure, Key, Panel, Part, Table, Words

TOLD = "mask.json"


def panel(run: Record, runs: Sequence[Record]) -> Panel | None:
    """Return the masks of one run, phase after phase."""
    masks = [each for each in run.every("mask") if TOLD in each.manifest.files]
    if not masks:
        return None
    found = [(run.phase_of(each), each.json(TOLD)) for each in masks]
    drawn = _one(found, runs) if len(found) == 1 else _several(found, runs)
    return Panel([drawn, _told(found)], masks)


def _most(runs: Sequence[Record]) -> float:
    masks = [each.json(TOLD) for run in runs for each in run.every("mask")]
    return max(float(own["density"]) for mask in masks for own in mask["kinds"].values())


def _table(found: Sequence[tuple[str, Any]]) -> Table:
    rows = [
        (phase, kind, own["matrices"], own["entries"], own["kept"], own["density"], 1 - own["density"],
         own["earlier"] / own["entries"])
        for phase, mask in found for kind, own in mask["kinds"].items()
    ]  # fmt: skip
    return Table(("phase", "matrices", "n", "entries", "may move", "density", "sparsity", "held by earlier masks"), rows)


def _one(found: Sequence[tuple[str, Any]], runs: Sequence[Record]) -> Figure:
    [(_, mask)] = found
    mean = Mark(mask["density"], "tick", "ink", f"of all entries: {share(mask['density'])}")
    rows = [Strip(kind, share(own["density"]), bar=own["density"], marks=(mean,)) for kind, own in mask["kinds"].items()]
    kind = max(mask["kinds"], key=lambda each: mask["kinds"][each]["density"])
    says = f"{len(rows)} kinds of matrices; the largest share moves in {kind}, {share(mask['kinds'][kind]['density'])}."
    plot = strips(rows, says=says, high=1.04 * _most(runs), shares=True)
    keys = (Key("c0", "share of the entries that may move"), Key("ink", "of all matrices together", "tick"))
    return Figure("Density of the mask in every kind of matrix", plot, _table(found), keys=keys)


def _several(found: Sequence[tuple[str, Any]], runs: Sequence[Record]) -> Figure:
    kinds = list(dict.fromkeys(kind for _, mask in found for kind in mask["kinds"]))
    values = [[100 * mask["kinds"][kind]["density"] if kind in mask["kinds"] else None for _, mask in found] for kind in kinds]
    says = f"{len(kinds)} kinds of matrices by {len(found)} phases, shares of the entries that may move, in percent."
    plot = heat(kinds, [phase for phase, _ in found], values, says=says, digits=1, reach=(0.0, 100 * _most(runs)))
    return Figure("Density of every phase's mask in every kind of matrix, percent of its entries", plot, _table(found))


def _told(found: Sequence[tuple[str, Any]]) -> Part:
    _, mask = found[-1]
    whose = "The last mask" if len(found) > 1 else "The mask"
    size = f"{count(mask['kept'])} of {count(mask['entries'])} entries ({share(mask['density'])}, scope {mask['scope']})"
    text = f"{whose} lets {size} move and comes of {count(mask['steps'])} steps of full training; all others keep their bits."
    if mask["kept"] < mask["wanted"]:
        text += f" {count(mask['wanted'])} were wanted; the others did not move in the calibration."
    if mask["earlier"]:
        text += f" Earlier masks hold {count(mask['earlier'])} entries; {share(mask['overlap'])} of it lies on them."
    return Words(text)


CHAPTER = Chapter(
    "masks", "Masks",
    "How large a share of the entries may move, in every kind of matrix.", panel,
)  # fmt: skip
