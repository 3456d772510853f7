"""The stages that train and measure what training did.

They are as all stages (:mod:`flows.stages`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from composer import tables
from composer.artifact import Artifact
from composer.errors import InputError
from composer.fingerprint import write_json
from composer.progress import say
from composer.spec import seed_of
from composer.types import LossOn
from flows.inputs import held_out, samples_of
from flows.models import Pinned, model_ref
from flows.sections import Evaluate

Stats = Mapping[str, Any]


def reference(
    folder: Path, *, spec: Any, domains: Sequence[str], max_length: int, seed: int, model: Pinned, samples: Artifact,
    loss_on: LossOn = "all", base: Artifact | None = None,
) -> Stats:  # fmt: skip
    """Find what the held-out loss of every domain comes down to when the model is trained on it alone, briefly."""
    from composer.train import reference_losses

    return reference_losses(
        samples_of(samples, "target", "replay"),
        held_out(samples, most=spec.held_out.rows),
        domains,
        model=model_ref(model, base),
        spec=spec,
        max_length=max_length,
        loss_on=loss_on,
        seed=seed_of(seed, "reference"),
        folder=folder,
    )


def mask(
    folder: Path, *, spec: Any, phase: int, max_length: int, seed: int, model: Pinned, composition: Artifact, samples: Artifact,
    loss_on: LossOn = "all", base: Artifact | None = None, start: Artifact | None = None,
) -> Stats:  # fmt: skip
    """Find which entries of the model a phase is to train: those that move furthest in a short full training."""
    from composer.train import calibrate

    return calibrate(
        _rows_of(composition, phase),
        samples_of(samples, "target", "replay"),
        model=model_ref(model, base),
        start=start.path if start else None,
        spec=spec,
        max_length=max_length,
        loss_on=loss_on,
        seed=seed_of(seed, "mask", phase),
        folder=folder,
    )


def train(
    folder: Path, *, spec: Any, phase: int, max_length: int, seed: int, model: Pinned, composition: Artifact, samples: Artifact,
    loss_on: LossOn = "all", base: Artifact | None = None, start: Artifact | None = None, references: Artifact | None = None,
    mask: Artifact | None = None, only: str | None = None, experts: Sequence[Artifact] = (), expert_domains: Sequence[str] = (),
) -> Stats:  # fmt: skip
    """Train on one phase of the composition, from the base or from the phase before.

    With ``only`` it is this domain's rows; ``experts`` are what was so trained on each of ``expert_domains``.
    """
    from composer.train import train as fit

    rows = _rows_of(composition, phase)
    if only is not None and (rows := rows.filter(pl.col("domain") == only)).is_empty():
        hint = "raise its weight or the budget, or leave the domain out"
        raise InputError("no rows to train an expert on", where=f"phase {phase + 1}", got=only, hint=hint)
    spec = spec.model_copy(update={"adapter": spec.adapter.among(rows["domain"].unique().to_list())})
    given = {f"experts/{domain}": expert.path for domain, expert in zip(expert_domains, experts, strict=True)}
    return fit(
        rows,
        samples_of(samples, "target", "replay"),
        model=model_ref(model, base),
        start=start.path if start else None,
        spec=spec,
        max_length=max_length,
        loss_on=loss_on,
        seed=seed_of(seed, "train", phase, *([] if only is None else [only])),
        folder=folder,
        moving=None if spec.law is None else _moving(spec, phase, composition, samples, references),
        given=given | ({"mask": mask.path} if mask else {}),
    )


def _rows_of(composition: Artifact, phase: int) -> pl.DataFrame:
    return tables.read(composition.file("composition.parquet"), tables.COMPOSITION).filter(pl.col("phase") == phase)


def _moving(spec: Any, phase: int, composition: Artifact, samples: Artifact, references: Artifact | None) -> Any:
    """Return what a law of training needs beside the rows of its phase (:class:`composer.train.Moving`).

    Of a phase of one domain, such as the first of a sequence, it is nothing: there is nothing to weigh.
    """
    from composer.train import Moving

    report, told = composition.json("report.json"), spec.reference.given if spec.reference else None
    shares = report["phases"][phase]["domains"]
    if len(shares) == 1:
        say(f"{shares[0]['domain']} is trained on alone: the law {spec.law.name} has nothing to weigh")
        return None
    return Moving(
        reserve=tables.read(composition.file("reserve.parquet"), tables.COMPOSITION).filter(pl.col("phase") == phase),
        held_out=held_out(samples, most=spec.held_out.rows),
        weights={share["domain"]: share["planned_share"] for share in shares},
        unit=report["unit"],
        references=references.manifest.stats["domains"] if references else told,
    )


def evaluate(
    folder: Path, *, spec: Evaluate, engine: Any, max_length: int, model: Pinned, samples: Artifact,
    loss_on: LossOn = "all", base: Artifact | None = None, trained: Artifact | None = None,
    domains: tuple[str, ...] | None = None,
) -> Stats:  # fmt: skip
    """Measure loss and exact match of every domain on held-out rows, and whom a mixture asks on them."""
    from probes.retention import measure, summarise
    from probes.routes import routes

    with engine.open(model_ref(model, base, trained)) as session:
        rows = held_out(samples, most=spec.max_samples, domains=domains)
        found = measure(session, rows, max_length=max_length, loss_on=loss_on)
        if getattr(session, "experts", ()):
            sent = routes(session, rows, max_length=max_length, loss_on=loss_on)
            tables.write(sent, folder / "routes.parquet", tables.ROUTES)
    tables.write(found, folder / "evaluation.parquet", tables.EVALUATION)
    summary = summarise(found)
    write_json(folder / "evaluation.json", summary)
    return {"samples": len(found), "domains": summary}


def retain(
    folder: Path, *, names: Sequence[str], current: Sequence[Sequence[str]], domains: tuple[str, ...],
    evaluations: Sequence[Artifact], experts: Sequence[Artifact] = (),
) -> Stats:  # fmt: skip
    """Say what was learned, kept and forgotten from stage to stage."""
    from probes.retention import Stage as Measured
    from probes.retention import retention

    upper = {domain: summary for each in experts for domain, summary in each.json("evaluation.json").items()}
    found = [evaluation.json("evaluation.json") for evaluation in evaluations]
    stages = [
        Measured(name=name, current=group, domains={domain: each[domain] for domain in domains if domain in each})
        for name, group, each in zip(names, current, found, strict=True)
    ]
    write_json(folder / "retention.json", retention(stages, experts=upper or None))
    return {"stages": len(stages)}
