"""The stage that predicts: from what short runs lost to a law, what it is worth, and the mixture that it proposes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from composer.artifact import Artifact
from composer.errors import InputError
from composer.fingerprint import write_json
from composer.small_runs import FORMS, Validation, interval, leverage, lowest, outside, validate
from composer.small_runs.forms import Matrix, Vector
from composer.small_runs.minimum import LEVEL
from composer.small_runs.region import Shares
from composer.small_runs.validation import Error
from flows.prediction.design import SmallRuns
from flows.trials.measures import OF_A_DOMAIN, measure_of

Stats = Mapping[str, Any]


def predict(folder: Path, *, design: SmallRuns, **runs: Sequence[Artifact]) -> Stats:
    """Tell the law that short runs follow and propose a mixture, if the law predicts better than the mean of the runs."""
    own = [runs[arm.name] for arm in design.runs]
    reports = [kept.json("retention.json") for kept, *_ in own]
    domains = tuple(reports[0]["domains"])
    values = _values(design, reports)
    shares = np.array([_shares(design, composition) for _, composition, _ in own])
    objective = _objective(design.objective, domains)
    found = validate(shares, _oriented(design, values), objective)
    proposal = _proposal(design, found, shares, objective) if found.predicts else None
    write_json(folder / "prediction.json", {
        "design": design, "domains": domains, "runs": [
            {"name": arm.name, "shares": s.tolist(), "values": v.tolist(), "objective": float(v @ objective),
             "loss_tokens": model.manifest.stats["n_loss_tokens"]}
            for arm, s, v, (_, _, model) in zip(design.runs, shares, values, own, strict=True)
        ],
        "law": {"form": found.law.form, "formula": FORMS[found.law.form].said, "offset": found.law.offset.tolist(),
                "slopes": found.law.slopes.tolist()},
        "forms": {form: _told(error) for form, error in found.errors.items()},
        "chosen": {**_told(found.chosen), "p": found.p},
        "by_domain": {domain: _told(error) for domain, error in zip(domains, found.by_domain, strict=True)},
        "proposal": proposal,
    })  # fmt: skip
    return {
        "measure": design.measure, "form": found.law.form, "r2": found.chosen.r2,
        "proposal": None if proposal is None else proposal["weights"],
    }  # fmt: skip


def _values(design: SmallRuns, reports: Sequence[Mapping[str, Any]]) -> Matrix:
    told = [report[OF_A_DOMAIN[design.measure]][-1] for report in reports]
    lacking = [arm.name for arm, own in zip(design.runs, told, strict=True) if any(value is None for value in own)]
    if lacking:
        hint = "hold rows of every domain out: holdout, or sources of the role validation"
        raise InputError(f"some domains have no {design.measure}", where="runs", got=", ".join(lacking[:3]), hint=hint)
    return np.array(told, dtype=np.float64)


def _shares(design: SmallRuns, composition: Artifact) -> Vector:
    """Return the shares of the mixed domains in what was really trained on."""
    realised = {each["domain"]: each["realised"] for each in composition.json("report.json")["domains"]}
    amounts = np.array([realised.get(domain, 0) for domain in design.domains], dtype=np.float64)
    return np.asarray(amounts / amounts.sum())


def _objective(word: str, domains: Sequence[str]) -> Vector:
    if word == "mean":
        return np.full(len(domains), 1 / len(domains))
    return np.array([float(domain == word) for domain in domains])


def _oriented(design: SmallRuns, values: Any) -> Any:
    """Return values of which less is better, or of such values the measure's own: it is the same map."""
    return values if measure_of(design.measure).better == "lower" else 1 - values


def _told(error: Error) -> dict[str, float]:
    return {"error": error.law, "error_of_mean": error.mean, "r2": error.r2}


def _proposal(design: SmallRuns, found: Validation, shares: Shares, objective: Vector) -> dict[str, Any]:
    """Return the mixture of least predicted objective, with what is known of the prediction and of the mixture itself."""
    region = design.region

    def best(law: Any) -> Shares:
        return lowest(lambda points: law(points) @ objective, region, starts=shares)

    def said(law: Any, at: Shares) -> float:
        return float(_oriented(design, law(at[None, :])[0] @ objective))

    weights, without = best(found.law), np.array([best(law) for law in found.left_out])
    ends = interval(np.array([law(weights[None, :])[0] @ objective for law in found.left_out]), found.residuals)
    controls = {arm.name: s for arm, s in zip(design.runs, shares, strict=True) if arm.is_control}
    return {
        "weights": dict(zip(design.domains, weights.tolist(), strict=True)),
        "least": dict(zip(design.domains, without.min(axis=0).tolist(), strict=True)),
        "most": dict(zip(design.domains, without.max(axis=0).tolist(), strict=True)),
        "predicted": said(found.law, weights), "level": LEVEL,
        "interval": None if ends is None else sorted(float(_oriented(design, end)) for end in ends),
        "controls": {name: said(found.law, at) for name, at in controls.items()},
        "outside": outside(shares, weights), "leverage": leverage(shares, weights),
        "largest_leverage": max(leverage(shares, each) for each in shares),
    }  # fmt: skip
