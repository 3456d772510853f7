"""The story of a run, written over a ``call``: a recipe becomes a plan of steps whose keys are known before anything is done.

A step is a stage with its values and its inputs, which are other steps. Its key follows from the recipe, the content of the
sources and the keys of its inputs, so a dry run, a single command and a scheduled flow all read the same plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from composer.artifact import Artifact, Store
from composer.errors import SourceError, SpecError
from composer.fingerprint import Fingerprints
from composer.ingest import Dataset, fingerprint, locate
from composer.select import SELECTORS
from composer.spec import member
from composer.types import Source
from flows.models import Pinned, chat_template, pin, settled
from flows.recipe import Recipe
from flows.stages import STAGES, Stage


@dataclass(frozen=True, eq=False)
class Step:
    """One stage to do: ``values`` bear identity, ``inputs`` are steps or tuples of steps."""

    label: str
    stage: Stage
    values: Mapping[str, Any]
    inputs: Mapping[str, Step | tuple[Step, ...]]

    @cached_property
    def key(self) -> str:
        """The key of the artifact that this step leaves."""
        return Store.key(self.stage.kind, version=self.stage.version, spec=self.values, inputs=self.input_keys)

    @cached_property
    def input_keys(self) -> dict[str, Any]:
        """The keys of the inputs, by role."""
        return {r: [s.key for s in each] if isinstance(each, tuple) else each.key for r, each in self.inputs.items()}

    @property
    def needs(self) -> tuple[Step, ...]:
        """Every step that this one reads."""
        return tuple(s for each in self.inputs.values() for s in (each if isinstance(each, tuple) else (each,)))

    def perform(self, store: Store, inputs: Mapping[str, Any], *, rebuild: bool = False) -> Artifact:
        """Return the step's artifact, built from its inputs' artifacts if it is not in the store."""
        return store.make(
            self.stage.kind,
            version=self.stage.version,
            spec=self.values,
            inputs=self.input_keys,
            build=lambda folder: self.stage.build(folder, **self.values, **inputs),
            rebuild=rebuild,
        )


@dataclass(frozen=True)
class Plan:
    """The steps of a run, each after those that it reads."""

    recipe: Recipe
    steps: tuple[Step, ...]

    def until(self, command: str) -> Plan:
        """Return the plan of one command: its steps and what they read."""
        wanted: set[int] = set()
        for step in reversed(self.steps):
            if step.stage.name == command or id(step) in wanted:
                wanted |= {id(step), *(id(each) for each in step.needs)}
        if not wanted:
            raise SpecError(f"this recipe has no stage '{command}'", where=self.recipe.name, hint="the recipe switches it off")
        return Plan(self.recipe, tuple(step for step in self.steps if id(step) in wanted))

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)


class Teller:
    """Collects the steps of a story: ``call("mix", law=..., samples=step)`` sorts values from inputs."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def __call__(self, command: str, label: str = "", /, **given: Any) -> Step:
        inputs = {k: v for k, v in given.items() if isinstance(v, Step) or _steps(v)}
        values = {k: v for k, v in given.items() if k not in inputs and v is not None}
        step = Step(f"{command} {label}".strip(), STAGES[command], values, inputs)
        self.steps.append(step)
        return step


def _steps(value: Any) -> bool:
    return isinstance(value, tuple) and bool(value) and all(isinstance(each, Step) for each in value)


Call = Callable[..., Step]


def make_plan(recipe: Recipe, store: Store) -> Plan:
    """Return the plan of a recipe; sources and models are looked at, nothing is written but their fingerprints."""
    call = Teller()
    run_story(recipe, call, Fingerprints(store.root))
    return Plan(recipe, tuple(call.steps))


def run_story(recipe: Recipe, call: Call, prints: Fingerprints) -> Step:
    """Tell the whole story, from the sources to the gathered run."""
    data = data_story(recipe, call, prints)
    told = [*data.parts, *data.all_but_parts]
    if recipe.train is not None:
        told += train_story(recipe, call, data)
    return call("report", name=recipe.name, inputs=tuple(told))


def data_recipe(recipe: Recipe) -> dict[str, Any]:
    """Return what of the recipe a card shows: all that the composition rests on, and not how it is trained on."""
    return {field: given for field, given in recipe.identity().items() if field not in ("train", "evaluate", "engine")}


@dataclass(frozen=True)
class Data:
    """The steps of the data story that training reads."""

    model: Mapping[str, Any]
    parts: tuple[Step, ...]
    samples: Step
    composition: Step
    phases: tuple[str, ...]
    others: tuple[Step, ...]

    @property
    def all_but_parts(self) -> tuple[Step, ...]:
        """Every step after ingest."""
        return (self.samples, *self.others, self.composition)


def data_story(recipe: Recipe, call: Call, prints: Fingerprints) -> Data:
    """Tell how sources become a composition and its exports."""
    model, tokenizer, made = base_story(recipe, call, prints)
    parts = tuple(ingest_story(recipe, call, prints, source, tokenizer) for source in map(recipe.located, recipe.sources))
    samples = call("pool", parts=parts, holdout=recipe.holdout, seed=recipe.seed, **cleaning(recipe, prints))
    measured = measure_story(recipe, call, prints, samples, model)
    mixture = call(
        "mix", law=recipe.law, domains=recipe.targets, unit=recipe.budget.unit, samples=samples, knowledge=measured.get("probe")
    )
    schedule = call(
        "replay", policy=recipe.replay, groups=recipe.groups, earlier=recipe.earlier, budget=recipe.budget,
        mixture=mixture, samples=samples, similarity=measured.get("compare"),
    )  # fmt: skip
    composition = call(
        "compose", domains=recipe.order, select=recipe.select, replay_select=replay_select(recipe), seed=recipe.seed,
        max_repeats=recipe.budget.max_repeats, schedule=schedule, samples=samples, scores=measured.get("score"),
    )  # fmt: skip
    exported = call(
        "export", exporters=recipe.exports, name=recipe.name, recipe=data_recipe(recipe), composition=composition,
        samples=samples, schedule=schedule, parts=parts, knowledge=measured.get("probe"),
    )  # fmt: skip
    others = (*made, *measured.values(), mixture, schedule, exported)
    return Data(model, parts, samples, composition, tuple("+".join(group) for group in recipe.sequence) or ("mixture",), others)


def ingest_story(recipe: Recipe, call: Call, prints: Fingerprints, source: Source, tokenizer: Mapping[str, Any]) -> Step:
    """Tell how one source is read; a Hub source is read at the very commit that its key bears."""
    source, content = pinned(source, prints)
    return call("ingest", source.name, source=source, content=content, max_length=recipe.max_length, **tokenizer)


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


def base_story(recipe: Recipe, call: Call, prints: Fingerprints) -> tuple[dict[str, Any], dict[str, Any], tuple[Step, ...]]:
    """Return what names the model, what names its tokenizer, and the step that makes the model where the recipe trains one."""
    model = recipe.base_model
    if model.train is None:
        weights, tokenizer = pin(recipe, prints)
        return {"model": weights}, {"model": tokenizer}, ()
    corpora = {d: c.model_copy(update={"path": str(recipe.at(c.path))}) for d, c in model.corpora.items()}
    contents = {domain: _content(Path(corpus.path), domain, prints) for domain, corpus in corpora.items()}
    made = call("base", spec=model.train, corpora=corpora, contents=contents, seed=recipe.seed)
    template, identity = chat_template(recipe, prints)
    named = {"model": Pinned(path="", content=identity, chat_template=template), "base": made}
    return named, named, (made,)


def _content(path: Path, domain: str, prints: Fingerprints) -> str:
    if not path.is_file():
        raise SpecError("no such file", where=f"base_model.corpora.{domain}.path", got=str(path))
    return prints.of(path)


def measure_story(recipe: Recipe, call: Call, prints: Fingerprints, samples: Step, model: Mapping[str, Any]) -> dict[str, Step]:
    """Tell what is measured of the samples and the base model: embeddings, similarity, tags, scores and knowledge."""
    out: dict[str, Step] = {}
    compared = tuple(dict.fromkeys((*recipe.earlier, *recipe.targets)))
    if recipe.embed is not None:
        embedder = settled(recipe.embed, recipe, prints, where="embed")
        out["embed"] = call("embed", embedder=embedder, samples=samples)
    if recipe.embed is not None and recipe.distance is not None:
        out["compare"] = call("compare", distance=recipe.distance, domains=compared, samples=samples, embeddings=out["embed"])
    if recipe.tags is not None:
        tagger = settled(recipe.tags.placed(recipe.at), recipe, prints, where="tags")
        out["tag"] = call("tag", tagger=tagger, samples=samples)
        out["score"] = call("score", tags=out["tag"], samples=samples)
    if recipe.probe is not None:
        placed = settled(recipe.probe.placed(recipe.at), recipe, prints, where="probe")
        out["probe"] = call(
            "probe", probe=placed, engine=recipe.engine, domains=recipe.order, seed=recipe.seed, samples=samples, **model
        )
    return out


def replay_select(recipe: Recipe) -> Any:
    """Return the selector of replayed rows: the recipe's, else the one that belongs to the policy."""
    return recipe.replay_select or member(dict(recipe.replay.natural_select), SELECTORS, kind="selector")


def train_story(recipe: Recipe, call: Call, data: Data) -> list[Step]:
    """Tell the training: phase after phase, measured before the first and after each."""
    measure = {"spec": recipe.evaluate, "engine": recipe.engine, "max_length": recipe.max_length, **data.model}
    before = call("evaluate", "before", samples=data.samples, **measure)
    models: list[Step] = []
    evaluations = [before]
    for i, name in enumerate(data.phases):
        models.append(call(
            "train", name if len(data.phases) > 1 else "", spec=recipe.train, phase=i, max_length=recipe.max_length,
            seed=recipe.seed, composition=data.composition, samples=data.samples, start=models[-1] if models else None,
            **data.model,
        ))  # fmt: skip
        evaluations.append(call("evaluate", f"after {name}", trained=models[-1], samples=data.samples, **measure))
    retained = call(
        "retain",
        names=("before", *data.phases),
        current=((), *recipe.groups),
        domains=recipe.order,
        evaluations=tuple(evaluations),
    )
    return [*models, *evaluations, retained]
