"""One plain function per arrow of the story: ``(folder, **values, **inputs) -> stats``; no Prefect, no command line.

A stage writes its files into ``folder`` and returns plain numbers for the manifest. Values bear identity (but for the fields of
a Spec that lie outside it); inputs are artifacts. ``STAGES`` is the list of commands, in the story's order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from composer import tables
from composer.artifact import Artifact
from composer.fingerprint import write_json
from composer.spec import seed_of
from composer.types import KnowledgeDistribution, LossOn, MixContext, Mixture, Schedule, SimilarityMatrix, Source, Unit
from flows import comparing, embedding, instructions, training
from flows.inputs import forgetting, light_samples_of, references_of, supply
from flows.models import Pinned, model_ref, tokenizer_of
from flows.prediction.stage import predict
from flows.sections import Corpus
from flows.spread import Spread
from flows.trials.stage import trial
from probes.engines.kept import give, open_kept

Stats = Mapping[str, Any]


@dataclass(frozen=True)
class Stage:
    """A command of the story and the kind of artifact it leaves; ``version`` rises when its output changes.

    One that ``reuses`` is given the complete artifacts of its kind and version as ``past``. One that can be split has
    ``shards(folder, names, **values, **inputs)``, which makes some of its shards, and is given ``spread`` where others do that
    (:mod:`flows.spread`).
    """

    name: str
    kind: str
    build: Callable[..., Stats]
    version: int = 1
    reuses: bool = False
    shards: Callable[..., None] | None = None

    @property
    def summary(self) -> str:
        """The first sentence of the stage's docstring."""
        return (self.build.__doc__ or "").split("\n")[0].rstrip(".")


def base(folder: Path, *, spec: Any, corpora: Mapping[str, Corpus], contents: Mapping[str, str], seed: int) -> Stats:  # noqa: ARG001
    """Train a small base model on documents of a known mixture."""
    from composer.train import pretrain
    from flows.corpora import read_corpus

    documents = {domain: read_corpus(corpus, name=domain) for domain, corpus in corpora.items()}
    return pretrain(documents, spec=spec, seed=seed_of(seed, "base"), folder=folder)


def ingest(
    folder: Path, *, source: Source, content: str, model: Pinned, max_length: int, loss_on: LossOn = "all",
    base: Artifact | None = None, spread: Spread | None = None,
) -> Stats:  # fmt: skip
    """Read one source into samples; what is dropped is kept beside them with its reason."""
    from composer.ingest import ingest as read

    revision = source.revision or content[:16]
    counted = {"tokenizer": tokenizer_of(model, base), "max_length": max_length, "loss_on": loss_on}
    return read(source, folder, **counted, revision=revision, spread=spread)


def ingest_shards(
    folder: Path, names: Sequence[str], *, source: Source, content: str, model: Pinned, max_length: int,  # noqa: ARG001
    loss_on: LossOn = "all", base: Artifact | None = None,
) -> None:  # fmt: skip
    """Count the tokens of some shards of a source that was read."""
    from composer.ingest import count_shards

    count_shards(source, folder, names, tokenizer=tokenizer_of(model, base), max_length=max_length, loss_on=loss_on)


def pool(
    folder: Path, *, parts: Sequence[Artifact], holdout: float, seed: int, dedup: Any, embedder: Any = None,
    decontaminate: Any = None, contents: Mapping[str, str] | None = None,  # noqa: ARG001
) -> Stats:  # fmt: skip
    """Join the sources, drop copies across them and hold rows out for measuring."""
    from composer.pooling import pool as join

    rules = {"dedup": dedup, "decontaminate": decontaminate, "embed": embedder.encode if embedder else None}
    return join([part.path for part in parts], folder, holdout=holdout, seed=seed_of(seed, "holdout"), **rules)


def probe(
    folder: Path, *, probe: Any, engine: Any, domains: tuple[str, ...], seed: int, model: Pinned, samples: Artifact,
    base: Artifact | None = None, spread: Spread | None = None,
) -> Stats:  # fmt: skip
    """Measure what the base model knows of every domain."""
    reference, role = references_of(samples)
    with open_kept(engine, model_ref(model, base), folder, spread) as session:
        found = probe.measure(session, domains=domains, reference=reference, seed=seed_of(seed, "probe"), folder=folder)
    return {"n": found.n, "rejected": found.rejected, "accuracy": found.accuracy, "judged_by": role}


def probe_shards(
    folder: Path, names: Sequence[str], *, engine: Any, model: Pinned, base: Artifact | None = None, **_: Any
) -> None:  # fmt: skip
    """Ask the base model, or the judge's, what some requests ask."""
    give(folder, names, engine=engine, model=model_ref(model, base))


def mix(
    folder: Path, *, law: Any, domains: tuple[str, ...], unit: Unit, samples: Artifact, knowledge: Artifact | None = None
) -> Stats:
    """Decide the weight of every target domain."""
    known = KnowledgeDistribution(**knowledge.json("knowledge.json")) if knowledge else None
    context = MixContext(domains=domains, sizes=supply(samples, domains, unit), knowledge=known)
    mixture = Mixture(domains=domains, weights=tuple(map(float, law.weights(context))), unit=unit, law=law.name)
    write_json(folder / "mixture.json", mixture.model_dump(mode="json"))
    return {"weights": dict(zip(domains, mixture.weights, strict=True)), "law": law.name}


def replay(
    folder: Path, *, policy: Any, groups: Sequence[tuple[str, ...]], earlier: tuple[str, ...], budget: Any,
    mixture: Artifact, samples: Artifact, similarity: Artifact | None = None, risk: Artifact | None = None,
    stages: int | None = None, evaluations: Sequence[Artifact] = (),
) -> Stats:  # fmt: skip
    """Plan how much of what is trained on, when, with the replay of earlier domains."""
    from composer.replay.schedule import plan
    from composer.similarity.shares import share_errors

    mixed = Mixture(**mixture.json("mixture.json"))
    names = tuple(dict.fromkeys((*earlier, *mixed.domains)))
    matrix = SimilarityMatrix(**similarity.json("similarity.json")) if similarity else None
    schedule = plan(
        groups,
        mixture=mixed,
        supply=dict(zip(names, supply(samples, names, budget.unit), strict=True)),
        earlier=earlier,
        policy=policy,
        budget=budget,
        similarity=matrix,
        risk=risk.json("risk.json")["phases"] if risk else None,
        forgetting=forgetting([each.json("evaluation.json") for each in evaluations], groups, earlier) if evaluations else None,
        stages=stages,
    )
    write_json(folder / "schedule.json", schedule.model_dump(mode="json"))
    stats = {"phases": len(schedule.phases), "total": schedule.total, "unit": schedule.unit, "policy": policy.name}
    if matrix is None or "similarity" not in policy.needs:
        return stats
    errors = share_errors(matrix, schedule, earlier=earlier)
    write_json(folder / "shares.json", errors)
    return {**stats, "share_error": max((each["variation"] or 0.0 for each in errors), default=0.0)}


def compose(
    folder: Path, *, domains: tuple[str, ...], select: Any, replay_select: Any, max_repeats: int, seed: int,
    schedule: Artifact, samples: Artifact, scores: Sequence[Artifact] = (), embeddings: Artifact | None = None,
    sample_embeddings: Artifact | None = None, answers: Artifact | None = None, clusters: Artifact | None = None,
    phase: int | None = None, reserve: bool = False,
) -> Stats:  # fmt: skip
    """Choose the rows and their order; planned and realised shares are reported in rows, tokens and loss tokens."""
    from composer.compose import compose as choose

    given = {"embeddings": embeddings, "sample_embeddings": sample_embeddings, "answers": answers, "clusters": clusters}
    read = {role: tables.read(each.file(f"{role}.parquet"), TABLES[role]) if each else None for role, each in given.items()}
    composition = choose(
        Schedule(**schedule.json("schedule.json")),
        light_samples_of(samples, "target", "replay"),
        domains=domains,
        select=select,
        replay_select=replay_select,
        instruction_scores=pl.concat([tables.read(each.file("scores.parquet"), tables.INSTRUCTION_SCORE) for each in scores])
        if scores
        else None,
        max_repeats=max_repeats,
        seed=seed_of(seed, "compose"),
        only=phase,
        with_reserve=reserve,
        embeddings=read["embeddings"],
        sample_embeddings=read["sample_embeddings"],
        clusters=read["clusters"],
        answers=read["answers"],
    )
    tables.write(composition.frame, folder / "composition.parquet", tables.COMPOSITION)
    if composition.reserve is not None:
        tables.write(composition.reserve, folder / "reserve.parquet", tables.COMPOSITION)
    write_json(folder / "report.json", composition.report)
    total = composition.report["total"]
    return {
        **{name: total[name] for name in ("rows", "tokens", "loss_tokens")},
        "shortages": len(composition.report["shortages"]),
    }


TABLES = {
    "embeddings": tables.EMBEDDING, "sample_embeddings": tables.SAMPLE_EMBEDDING, "answers": tables.ANSWER,
    "clusters": tables.CLUSTERS,
}  # fmt: skip
"""What selectors read besides scores: the tables by role, each in a file of that name."""


def export(
    folder: Path, *, exporters: Sequence[Any], name: str, recipe: Mapping[str, Any], composition: Artifact, samples: Artifact,
    schedule: Artifact, parts: Sequence[Artifact], knowledge: Artifact | None = None,
) -> Stats:  # fmt: skip
    """Write the mixed dataset in every wanted format, with its data card."""
    from composer.export.base import TrainedOn
    from composer.export.card import card, write_card
    from composer.export.rows import licenses
    from flows.citations import citations

    rows = composition.file("composition.parquet"), samples.file("samples.parquet")
    how = TrainedOn(recipe["max_length"], recipe.get("loss_on", "all"))
    stats = {exporter.name: exporter.write(*rows, folder, how=how) for exporter in exporters}
    text = card(
        name=name,
        recipe=recipe,
        report=composition.json("report.json"),
        sources=described_parts(parts),
        knowledge=knowledge.json("knowledge.json") if knowledge else None,
        schedule=schedule.json("schedule.json"),
        pool=samples.manifest.stats,
        key=composition.key,
        licenses=licenses(*rows),
        lock=_lock(parts, [samples, *([knowledge] if knowledge else []), schedule, composition]),
        citations=citations(recipe),
    )
    write_card(text, folder)
    return stats


def described_parts(parts: Sequence[Artifact]) -> list[dict[str, Any]]:
    """Return what a card says of every source: its fields, what identifies its content, and the counts of its rows."""
    return [{**part.manifest.spec["source"], "content": part.manifest.spec["content"], **part.manifest.stats} for part in parts]


def _lock(parts: Sequence[Artifact], made: Sequence[Artifact]) -> dict[str, Any]:
    """Return what pins an export: the content of its sources, and the artifacts with the versions of their stages."""
    return {
        "sources": {part.manifest.spec["source"]["name"]: part.manifest.spec["content"] for part in parts},
        "artifacts": {f"{each.kind}/{each.key}": {"version": each.manifest.version} for each in (*parts, *made)},
    }


def report(folder: Path, *, name: str, inputs: Sequence[Artifact]) -> Stats:
    """Gather a run: which artifacts belong to it."""
    write_json(folder / "run.json", {"name": name, "artifacts": [{"kind": a.kind, "key": a.key} for a in inputs]})
    return {"name": name, "artifacts": len(inputs)}


STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage("base", "base", base),
        Stage("ingest", "source", ingest, version=2, shards=ingest_shards),
        Stage("pool", "samples", pool, version=2),
        Stage("embed", "embeddings", embedding.embed, reuses=True, shards=embedding.shards),
        Stage("embed-rows", "sample_embeddings", embedding.embed_rows, shards=embedding.shards),
        Stage("answers", "answers", instructions.answers),
        Stage("tag", "tags", instructions.tag, version=3, shards=instructions.tag_shards),
        Stage("score", "scores", instructions.score, version=2),
        Stage("cluster", "clusters", instructions.cluster),
        Stage("probe", "knowledge", probe, version=3, shards=probe_shards),
        Stage("compare", "similarity", comparing.compare, version=3, reuses=True, shards=comparing.shards),
        Stage("cover", "coverage", instructions.cover),
        Stage("interfere", "interference", instructions.interfere),
        Stage("mix", "mixture", mix),
        Stage("replay", "schedule", replay, version=2),
        Stage("compose", "composition", compose, version=3),
        Stage("export", "export", export, version=3),
        Stage("reference", "reference", training.reference, version=2),
        Stage("mask", "mask", training.mask),
        Stage("train", "model", training.train, version=2),
        Stage("evaluate", "evaluation", training.evaluate),
        Stage("retain", "retention", training.retain, version=2),
        Stage("report", "run", report),
        Stage("trial", "trial", trial),
        Stage("predict", "prediction", predict),
    )
}
