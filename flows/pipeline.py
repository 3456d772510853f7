"""The story of a run, written over a ``call``: what is read, what is measured, how much of what, and then training.

base --> ingest --> pool --> measure --> mix --> sequence (flows.sequence: replay, compose, export, train, evaluate)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from composer.artifact import Store
from composer.errors import SourceError, SpecError
from composer.fingerprint import Fingerprints
from composer.ingest import Dataset, fingerprint, locate
from composer.types import Source
from flows.models import Pinned, chat_template, pin, settled
from flows.plan import Call, Plan, Step, Teller
from flows.recipe import Recipe
from flows.sequence import Ground, sequence_story


def make_plan(recipe: Recipe, store: Store, *, base_seed: int | None = None) -> Plan:
    """Return the plan of a recipe; sources and models are looked at, nothing is written but their fingerprints.

    A base model that the recipe trains is trained with ``base_seed``, or with the recipe's own seed.
    """
    call = Teller()
    run_story(recipe, call, Fingerprints(store.root), base_seed=base_seed)
    return Plan(recipe, tuple(call.steps))


def run_story(recipe: Recipe, call: Call, prints: Fingerprints, *, base_seed: int | None = None) -> Step:
    """Tell the whole story, from the sources to the gathered run."""
    pooled = pool_story(recipe, call, prints, base_seed=base_seed)
    measured = measure_story(recipe, call, prints, pooled)
    mixture = call(
        "mix", law=recipe.law, domains=recipe.targets, unit=recipe.budget.unit, samples=pooled.samples,
        knowledge=measured.get("probe") if "knowledge" in recipe.law.needs else None,
    )  # fmt: skip
    ground = Ground(recipe, call, pooled.model, pooled.parts, pooled.samples, measured, mixture)
    told = (*pooled.parts, pooled.samples, *pooled.made, *measured.values(), mixture, *sequence_story(ground))
    return call("report", name=recipe.name, inputs=told)


@dataclass(frozen=True)
class Pooled:
    """The sources as one table: what names the model, the step that made it (if any), the parts, and the samples."""

    model: Mapping[str, Any]
    made: tuple[Step, ...]
    parts: tuple[Step, ...]
    samples: Step


def pool_story(recipe: Recipe, call: Call, prints: Fingerprints, *, base_seed: int | None = None) -> Pooled:
    """Tell how sources become samples."""
    model, tokenizer, made = base_story(recipe, call, prints, seed=recipe.seed if base_seed is None else base_seed)
    parts = tuple(ingest_story(recipe, call, prints, source, tokenizer) for source in map(recipe.located, recipe.sources))
    samples = call("pool", parts=parts, holdout=recipe.holdout, seed=recipe.seed, **cleaning(recipe, prints))
    return Pooled(model, made, parts, samples)


def ingest_story(recipe: Recipe, call: Call, prints: Fingerprints, source: Source, tokenizer: Mapping[str, Any]) -> Step:
    """Tell how one source is read; a Hub source is read at the very commit that its key bears."""
    source, content = pinned(source, prints)
    return call("ingest", source.name, source=source, content=content, **recipe.trained_on, **tokenizer)


def pinned(source: Source, prints: Fingerprints) -> tuple[Source, str]:
    """Return a source and what identifies its content; a Hub source comes back at its present commit."""
    content = fingerprint(source, prints)
    if isinstance(locate(source), Dataset):
        return source.model_copy(update={"revision": content}), f"{source.path}@{content}"
    return source, content


def cleaning(recipe: Recipe, prints: Fingerprints) -> dict[str, Any]:
    """Return how the pool finds copies and evaluation texts; what the evaluation sets hold bears identity."""
    embedder = recipe.embed if "embed" in recipe.dedup.needs else None
    rules: dict[str, Any] = {
        "dedup": recipe.dedup, "embedder": embedder and settled(embedder, recipe, prints, where="embed"),
    }  # fmt: skip
    if recipe.decontaminate is None:
        return rules
    try:
        sets = [pinned(recipe.located(each), prints) for each in recipe.decontaminate.against]
    except SourceError as error:
        raise error.within("decontaminate") from None
    against = tuple(each for each, _ in sets)
    contents = {each.name: content for each, content in sets}
    spec = recipe.decontaminate.model_copy(update={"against": against})
    return {**rules, "decontaminate": spec, "contents": contents or None}


def base_story(
    recipe: Recipe, call: Call, prints: Fingerprints, *, seed: int
) -> tuple[dict[str, Any], dict[str, Any], tuple[Step, ...]]:
    """Return what names the model, what names its tokenizer, and the step that makes the model where the recipe trains one."""
    model = recipe.base_model
    if model.train is None:
        weights, tokenizer = pin(recipe, prints)
        return {"model": weights}, {"model": tokenizer}, ()
    corpora = {d: c.model_copy(update={"path": str(recipe.at(c.path))}) for d, c in model.corpora.items()}
    contents = {domain: _content(Path(corpus.path), domain, prints) for domain, corpus in corpora.items()}
    made = call("base", spec=model.train, corpora=corpora, contents=contents, seed=seed)
    template, identity = chat_template(recipe, prints)
    named = {"model": Pinned(path="", content=identity, chat_template=template), "base": made}
    return named, named, (made,)


def _content(path: Path, domain: str, prints: Fingerprints) -> str:
    if not path.is_file():
        raise SpecError("no such file", where=f"base_model.corpora.{domain}.path", got=str(path))
    return prints.of(path)


def measure_story(recipe: Recipe, call: Call, prints: Fingerprints, pooled: Pooled) -> dict[str, Step]:
    """Tell what is measured of the samples and the base model, by the name of the stage."""
    out: dict[str, Step] = {}
    samples, in_order = pooled.samples, {"groups": recipe.groups, "earlier": recipe.earlier}
    if recipe.embed is not None:
        embedder = settled(recipe.embed, recipe, prints, where="embed")
        out["embed"] = call("embed", embedder=embedder, samples=samples)
        out |= _of_embeddings(recipe, call, samples, out["embed"], embedder, in_order)
    if recipe.tags is not None:
        tagger = settled(recipe.tags.placed(recipe.at), recipe, prints, where="tags")
        out["tag"] = call("tag", tagger=tagger, samples=samples)
        out["score"] = call("score", tags=out["tag"], samples=samples, **in_order)
    if recipe.cluster is not None:
        out["cluster"] = call(
            "cluster", clusterer=recipe.cluster, seed=recipe.seed, embeddings=out["embed"], samples=samples, tags=out.get("tag")
        )
    if recipe.probe is not None:
        placed = settled(recipe.probe.placed(recipe.at), recipe, prints, where="probe")
        given = {"probe": placed, "engine": recipe.engine, "domains": recipe.order, "seed": recipe.seed}
        out["probe"] = call("probe", samples=samples, **given, **pooled.model)
    return out


def _of_embeddings(
    recipe: Recipe, call: Call, samples: Step, embeddings: Step, embedder: Any, in_order: Mapping[str, Any]
) -> dict[str, Step]:
    out: dict[str, Step] = {}
    compared = tuple(dict.fromkeys((*recipe.earlier, *recipe.targets)))
    if recipe.distance is not None:
        out["compare"] = call("compare", distance=recipe.distance, domains=compared, samples=samples, embeddings=embeddings)
    if recipe.covering is not None:
        out["cover"] = call("cover", coverage=recipe.covering, samples=samples, embeddings=embeddings, **in_order)
    if recipe.replay.name == "interference":
        spec = {"near": recipe.replay.near, "rows": recipe.replay.rows, "seed": recipe.seed}
        out["interfere"] = call("interfere", embedder=embedder, samples=samples, **spec, **in_order)
    for needed, call_name in (("answers", "answers"), ("sample_embeddings", "embed-rows")):
        if any(needed in each.needs for each in recipe.selectors):
            own = {"embedder": embedder} if call_name == "embed-rows" else {}
            out[call_name] = call(call_name, samples=samples, **own)
    return out
