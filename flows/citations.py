"""Where the methods that a recipe uses come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from composer.cluster import CLUSTERERS
from composer.dedup import DEDUP
from composer.laws import LAWS
from composer.replay import REPLAY
from composer.select import SELECTORS
from composer.similarity import DISTANCES
from composer.train.adapters import ADAPTERS
from composer.train.reweight import REWEIGHTING
from probes.embed import EMBEDDERS
from probes.knowledge import KNOWLEDGE
from probes.knowledge.judges import JUDGES
from probes.tags import TAGGERS

FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "dedup": DEDUP, "embed": EMBEDDERS, "tags": TAGGERS, "cluster": CLUSTERERS, "probe": KNOWLEDGE, "probe.judge": JUDGES,
    "distance": DISTANCES, "law": LAWS, "replay": REPLAY, "select": SELECTORS, "replay_select": SELECTORS,
    "adapter": ADAPTERS, "train.law": REWEIGHTING,
}  # fmt: skip
"""The families whose members say where they come from, by the fields of a recipe."""


def citations(recipe: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return the field, the word and the reference of every method of a recipe, given as plain values, that has one.

    Examples
    --------
    >>> citations({"law": {"name": "uniform"}, "replay": "random"})[0]
    ('law', 'uniform', 'VersaTune, arXiv:2411.11266, uniform baseline')
    """
    out = []
    for field, family in FAMILIES.items():
        value: Any = recipe
        for part in field.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        word = value.get("name") if isinstance(value, Mapping) else value
        reference = getattr(family.get(word), "reference", "-") if isinstance(word, str) else "-"
        if reference != "-":
            out.append((field, str(word), reference))
    return out
