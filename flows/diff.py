"""Two probes side by side: what another model, or another checkpoint, writes more of and what less."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from composer.artifact import Store
from composer.errors import InputError
from composer.spec import rng
from composer.types import KnowledgeDistribution, array
from probes.knowledge.bootstrap import N_RESAMPLES, RESAMPLES, read_resamples
from probes.knowledge.estimate import Estimate, difference

NOTE = (
    "Differences are b - a. The intervals take the two as independent and cover the sampling of texts; what the judge gets "
    "wrong of both alike hardly changes a difference, what it gets wrong of one alone does, and that is not covered."
)


@dataclass(frozen=True)
class Side:
    """One of the two: how it was named, where it lies and what it says."""

    reference: str
    folder: Path
    knowledge: KnowledgeDistribution


def diff(a: str, b: str, *, store: Store) -> dict[str, Any]:
    """Compare two knowledge artifacts, each a reference into the store or a path to ``knowledge.json`` or its folder.

    Raises
    ------
    InputError
        Where one is no knowledge artifact, or the two speak of other domains or come from other probes.
    """
    first, second = _side(a, store), _side(b, store)
    warnings = _comparable(first, second)
    domains = first.knowledge.domains
    found = difference(*(_estimate(side, domains, warnings) for side in (first, second)))
    sides = {"a": first, "b": second}
    shares = {name: dict(zip(side.knowledge.domains, side.knowledge.p, strict=True)) for name, side in sides.items()}
    columns = zip(domains, found.share.tolist(), found.low.tolist(), found.high.tolist(), strict=True)
    return {
        **{name: _told(side) for name, side in sides.items()},
        "domains": [
            {"domain": domain, "a": shares["a"][domain], "b": shares["b"][domain], "difference": by, "low": low, "high": high}
            for domain, by, low, high in columns
        ],
        "total_variation": {"value": found.variation, "low": found.variation_low, "high": found.variation_high},
        "warnings": warnings,
        "note": NOTE,
    }


def show(document: Mapping[str, Any]) -> None:
    """Print a comparison."""
    from flows.screen import out, table

    for name in ("a", "b"):
        side = document[name]
        judged = f"{side['n']:,} texts judged, {side['rejected']:,} rejected"
        out.print(f"{name}: {side['reference']} ({judged})", markup=False, soft_wrap=True)
    fields = ("domain", "a", "b", "difference", "low", "high")
    rows = [[each[field] for field in fields] for each in document["domains"]]
    out.print(table("What changed from a to b", ("domain", "a", "b", "b - a", "2.5 %", "97.5 %"), rows))
    by = document["total_variation"]
    out.print(f"Total variation {by['value']:.3f} (95 % interval {by['low']:.3f} to {by['high']:.3f}).")
    for line in (*(f"warning: {each}" for each in document["warnings"]), document["note"]):
        out.print(line, markup=False)


def _side(reference: str, store: Store) -> Side:
    path = Path(reference)
    if not path.exists():
        artifact = store.get(reference)
        if artifact.kind != "knowledge":
            raise InputError("not what a probe leaves", where=reference, expected="kind knowledge", got=artifact.kind)
        path = artifact.path
    file = path / "knowledge.json" if path.is_dir() else path
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        cause = " ".join(str(error).split())[:160]
        raise InputError(f"no knowledge can be read: {cause}", where=str(file), expected="a knowledge.json") from None
    if not isinstance(fields, dict):
        raise InputError("not what a probe leaves", where=str(file), expected="a JSON object", got=type(fields).__name__)
    try:
        return Side(reference, file.parent, KnowledgeDistribution(**fields))
    except InputError as error:
        raise error.within(str(file)) from None


def _comparable(a: Side, b: Side) -> list[str]:
    """Return what to beware of in comparing the two, or refuse."""
    one, other = a.knowledge, b.knowledge
    if set(one.domains) != set(other.domains):
        raise InputError(
            "the two speak of other domains", where=f"{a.reference}, {b.reference}", expected=", ".join(one.domains),
            got=", ".join(other.domains), hint="probe both with one recipe",
        )  # fmt: skip
    if one.probe != other.probe:
        raise InputError(
            "the two come from other probes, whose shares mean other things", where=f"{a.reference}, {b.reference}",
            expected=one.probe or "an unnamed probe", got=other.probe or "an unnamed probe", hint="probe both with one recipe",
        )  # fmt: skip
    if one.accuracy is None and other.accuracy is None:  # nobody judged
        return []
    if not (one.judge and other.judge):
        unsaid = " and ".join(side.reference for side in (a, b) if not side.knowledge.judge)
        return [f"{unsaid} does not say who judged: a difference may be the judges'"]
    if one.judge != other.judge:
        return [f"other judges, {one.judge} and {other.judge}: a difference may be theirs, and the intervals do not cover it"]
    return []


def _estimate(side: Side, domains: tuple[str, ...], warnings: list[str]) -> Estimate:
    """Return a side's shares in the order of ``domains``, with its resamples or, without any, normal errors in their place."""
    known = side.knowledge
    order = [known.domains.index(domain) for domain in domains]
    file = side.folder / RESAMPLES
    if file.is_file():
        resamples = read_resamples(file, known.domains)
    else:
        warnings.append(f"no {RESAMPLES} beside {side.reference}: its interval is made of normal standard errors")
        resamples = _normal(known)
    return Estimate(array(known.p)[order], resamples[:, order])


def _normal(known: KnowledgeDistribution) -> np.ndarray:
    errors = rng(0, "diff", "normal").standard_normal((N_RESAMPLES, len(known.p)))
    return np.asarray(array(known.p) + errors * array(known.stderr))


def _told(side: Side) -> dict[str, Any]:
    known = side.knowledge.model_dump(mode="json", include={"n", "rejected", "accuracy", "judge", "probe", "begun_with"})
    return {"reference": side.reference, **known}
