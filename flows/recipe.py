"""Recipe: one YAML document is the whole experiment.

Unknown fields are refused by name. ``key=value`` overrides come after the file: ``law.floor=0.05``, ``sources.0.limit=100``.
Relative paths start at ``root``, which is the current directory unless the recipe says otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from composer.artifact import Store
from composer.cluster import CLUSTERERS
from composer.decontaminate import Decontaminate
from composer.dedup import DEDUP
from composer.errors import SpecError, nearest
from composer.export import EXPORTERS
from composer.ingest.location import is_hub_id
from composer.laws import LAWS
from composer.remote import is_url
from composer.replay import REPLAY
from composer.replay.order import Order, ordered
from composer.select import SELECTORS
from composer.similarity import DISTANCES
from composer.spec import Spec, member, member_of, members_of, outside_identity, refuse_secrets
from composer.train import Train
from composer.types import Budget, LossOn, Source
from flows.conduct import Conduct
from flows.runners import RUNNERS
from flows.sections import BaseModel, Coverage, Evaluate, narrowed
from flows.trials.spec import Trial
from flows.yaml_text import override_with, parse
from probes.embed import EMBEDDERS
from probes.engines import ENGINES
from probes.knowledge import KNOWLEDGE
from probes.tags import TAGGERS

EMBEDDED = frozenset({"embeddings", "sample_embeddings"})
"""What selectors may need that comes of an embedder."""


class Recipe(Spec):
    """One experiment, from sources to a trained model and its retention report.

    ``domains`` is the order of every vector (the sources' order when absent). ``sequence`` lists groups of domains that are
    trained one after another, in the order as given or as ``sequence_order`` says (``curriculum`` and ``reverse`` need
    ``upper_bounds``, what an expert of each domain reaches); without it all target domains are mixed in one phase. Rows are cut
    after ``max_length`` tokens; of a conversation every assistant turn is trained on, with ``loss_on: last`` only the last.
    ``only`` narrows the recipe down to some domains: sources, domains and groups of all others are left out.
    ``max_dropped`` is the share of a source's rows that may be unusable before the doctor fails. ``license_conflicts: allow``
    lets a mix go to the Hub whose licences ask for what cannot be had together (:mod:`composer.ingest.licences`).
    ``flow`` says how Prefect conducts the run: what is tried again, how long a stage may take, and the GPU's limit.
    ``runner`` says where the work is done. ``trial`` names arms to compare (:mod:`flows.trials`).
    """

    name: str = Field(pattern=r"^[\w.-]+$")
    seed: int = 0
    root: str = outside_identity(".")
    store: str = outside_identity("store")
    base_model: BaseModel
    only: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    sources: tuple[Source, ...] = Field(min_length=1)
    max_length: int = Field(default=1024, ge=8)
    loss_on: LossOn = "all"
    dedup: member_of(DEDUP, kind="way to find duplicates") = "exact"  # type: ignore[valid-type]
    decontaminate: Decontaminate | None = None
    max_dropped: float = outside_identity(0.1, ge=0, le=1)
    holdout: float = Field(default=0.1, ge=0, lt=1)
    engine: member_of(ENGINES, kind="engine") = "hf"  # type: ignore[valid-type]
    embed: member_of(EMBEDDERS, kind="embedder") | None = "lexical"  # type: ignore[valid-type]
    tags: member_of(TAGGERS, kind="tagger") | None = "keyphrase"  # type: ignore[valid-type]
    probe: member_of(KNOWLEDGE, kind="knowledge probe") | None = "self_generation"  # type: ignore[valid-type]
    distance: member_of(DISTANCES, kind="distance") | None = "wasserstein"  # type: ignore[valid-type]
    law: member_of(LAWS, kind="law") = "proportional"  # type: ignore[valid-type]
    replay: member_of(REPLAY, kind="replay policy") = "none"  # type: ignore[valid-type]
    select: member_of(SELECTORS, kind="selector") = "uniform"  # type: ignore[valid-type]
    replay_select: member_of(SELECTORS, kind="selector") | None = None  # type: ignore[valid-type]
    coverage: Coverage | None = None
    cluster: member_of(CLUSTERERS, kind="clusterer") | None = None  # type: ignore[valid-type]
    sequence: tuple[tuple[str, ...], ...] = ()
    sequence_order: Order = "given"
    upper_bounds: dict[str, float] = {}
    budget: Budget = Budget()
    exports: members_of(EXPORTERS, kind="exporter") = ("parquet",)  # type: ignore[valid-type]
    license_conflicts: Literal["stop", "allow"] = outside_identity("stop")
    train: Train | None = Train()
    evaluate: Evaluate = Evaluate()
    flow: Conduct = outside_identity(Conduct())
    runner: member_of(RUNNERS, kind="runner") = outside_identity("thread")  # type: ignore[valid-type]
    trial: Trial = outside_identity(Trial())

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        refuse_secrets(data)
        data = dict(data)
        groups = data.get("sequence") or ()
        data["sequence"] = [[group] if isinstance(group, str) else group for group in groups]
        return narrowed(data) if data.get("only") else data

    @model_validator(mode="after")
    def _copies(self) -> Recipe:
        names = [source.name for source in self.sources]
        for name in () if isinstance(self.dedup.keep, str) else self.dedup.keep:
            if name not in names:
                raise SpecError("no such source", where="dedup.keep", got=name, hint=nearest(name, names))
        if "embed" in self.dedup.needs and self.embed is None:
            raise SpecError(f"{self.dedup.name} needs an embedder", where="dedup", hint="give the recipe an embedder: embed")
        return self

    @model_validator(mode="after")
    def _needs(self) -> Recipe:
        if "forgetting" in self.replay.needs and self.train is None:
            hint = "let the recipe train, or choose another policy"
            raise SpecError(f"{self.replay.name} plans by what training made the model forget", where="replay", hint=hint)
        if not self.exports:
            hint = f"name at least one of {', '.join(EXPORTERS)}"
            raise SpecError("a composition is written in no format", where="exports", hint=hint)
        wanting = [field for field in ("coverage", "cluster") if getattr(self, field) is not None]
        wanting += ["replay"] if "risk" in self.replay.needs else []
        wanting += ["replay_select"] if any(EMBEDDED & each.needs for each in self.selectors) else []
        if wanting and self.embed is None:
            raise SpecError("needs an embedder", where=wanting[0], hint="give the recipe an embedder: embed")
        if self.cluster is None and any("clusters" in each.needs or each.max_cluster_share for each in self.selectors):
            raise SpecError("max_cluster_share needs clusters", where="select", hint="give the recipe a clusterer: cluster")
        return self

    @model_validator(mode="after")
    def _law_of_training(self) -> Recipe:
        """Refuse before hours of work what training would refuse in any phase; one of a single domain has nothing to weigh."""
        if self.train is None or self.train.law is None:
            return self
        weighed = [domains for domains in self.phase_domains if len(domains) > 1]
        if not weighed:
            hint = "give several domains, a sequence with replay, or no law"
            raise SpecError("nothing to weigh: no phase trains on two domains", where="train.law", hint=hint)
        for domains in weighed:
            try:
                self.train.law.check(domains)
            except SpecError as error:
                if self.sequence:
                    error.what += f", in the phase of {', '.join(domains)}"
                raise error.within("train.law") from None
        told = self.train.reference.given if self.train.reference else None
        trained = dict.fromkeys(domain for domains in self.phase_domains for domain in domains)
        if told is not None and (missing := [domain for domain in trained if domain not in told]):
            where, expected = "train.reference.given", "one of every domain"
            raise SpecError("no reference loss", where=where, expected=expected, got=", ".join(missing))
        return self

    @model_validator(mode="after")
    def _adapter(self) -> Recipe:
        if self.train is None:
            return self
        adapter = self.train.adapter.among(self.order) if self.only else self.train.adapter  # what is left out may be named
        try:
            adapter.check(self.order, n_phases=max(len(self.sequence), 1))
        except SpecError as error:
            raise error.within("train.adapter") from None
        return self

    @model_validator(mode="after")
    def _names(self) -> Recipe:
        names = [source.name for source in self.sources]
        if twice := {name for name in names if names.count(name) > 1}:
            raise SpecError("two sources share a name", where="sources", got=", ".join(sorted(twice)))
        known = self.order
        for field, used in (("domains", self.domains), ("sequence", tuple(d for g in self.sequence for d in g))):
            for domain in used:
                if domain not in {source.domain for source in self.sources}:
                    raise SpecError(f"no source feeds domain '{domain}'", where=field, hint=nearest(domain, known))
        if self.sequence and (left_out := set(self.targets) - {domain for group in self.sequence for domain in group}):
            hint = "add them, or give their sources another role"
            raise SpecError("target domains are left out", where="sequence", got=", ".join(sorted(left_out)), hint=hint)
        for source in self.sources:
            if source.domain not in known:
                raise SpecError(
                    f"domain '{source.domain}' is not listed", where=f"sources.{source.name}", expected=", ".join(known)
                )
        return self

    @property
    def order(self) -> tuple[str, ...]:
        """The domains that are mixed, in the order of every vector."""
        return self.domains or tuple(dict.fromkeys(s.domain for s in self.sources if s.role != "reference"))

    @property
    def targets(self) -> tuple[str, ...]:
        """The domains with target sources, in order."""
        fed = {source.domain for source in self.sources if source.role == "target"}
        return tuple(domain for domain in self.order if domain in fed)

    @property
    def earlier(self) -> tuple[str, ...]:
        """The domains with replay sources only, in order."""
        fed = {source.domain for source in self.sources if source.role == "replay"}
        return tuple(domain for domain in self.order if domain in fed and domain not in self.targets)

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The groups of domains that are trained one after another, in their order."""
        groups = self.sequence or (self.targets,)
        return ordered(groups, order=self.sequence_order, upper=self.upper_bounds, seed=self.seed)

    @property
    def phase_domains(self) -> tuple[tuple[str, ...], ...]:
        """The domains that every phase may train on: its own and, where there is replay, those before."""
        out, before = [], self.earlier
        for group in self.groups:
            out.append((*(before if self.replay.per_task else ()), *group))
            before = (*before, *group)
        return tuple(out)

    @property
    def trained_on(self) -> dict[str, Any]:
        """What decides which tokens of a row are trained on, for all stages that count them; the usual word is left out."""
        return {"max_length": self.max_length, **({} if self.loss_on == "all" else {"loss_on": self.loss_on})}

    @property
    def replay_selector(self) -> Any:
        """The selector of replayed rows: the recipe's, else the one that belongs to the policy."""
        return self.replay_select or member(dict(self.replay.natural_select), SELECTORS, kind="selector")

    @property
    def selectors(self) -> tuple[Any, ...]:
        """The selectors of new and of replayed rows."""
        return self.select, self.replay_selector

    @property
    def covering(self) -> Coverage | None:
        """The coverage map to make: the recipe's, or the one that the replay policy reads."""
        if self.replay.name == "coverage":
            return (self.coverage or Coverage()).model_copy(update={"near": self.replay.near})
        return self.coverage

    def at(self, path: str) -> Path:
        """Return a path of the recipe as a path from here."""
        return Path(self.root).expanduser() / Path(path).expanduser()

    def store_at(self, place: str | None = None) -> Store:
        """Return the store at a place, a path from here or a URL, or the one that the recipe names."""
        return Store(place or (self.store if is_url(self.store) else self.at(self.store)))

    def located(self, source: Source) -> Source:
        """Return the source with its local path made to start at ``root``; a Hub id stays as it is."""
        local = self.at(source.path)
        is_hub = is_hub_id(source.path) and not local.exists()
        return source if is_hub else source.model_copy(update={"path": str(local)})


def read_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and its ``key=value`` overrides.

    Raises
    ------
    SpecError
        For a missing file, broken YAML (with its line), an unknown field or a wrong value.
    """
    return Recipe(**read_fields(path, overrides))


def read_fields(path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Return what a recipe's file and its overrides say, as plain values that are not checked yet."""
    file = Path(path)
    if not file.is_file():
        beside = [each.name for each in file.parent.glob("*.y*ml")] if file.parent.is_dir() else []
        hint = nearest(file.name, beside) if beside else "sft-composer init FOLDER writes one for a folder of data"
        raise SpecError("no such recipe", where="RECIPE", got=str(path), expected="a YAML file", hint=hint)
    try:
        return _fields(file.read_text(encoding="utf-8"), overrides, where=str(path))
    except UnicodeDecodeError as error:
        raise SpecError(f"not UTF-8: {error.reason}", where=str(path)) from None


def recipe_of(text: str, overrides: Sequence[str] = (), *, where: str = "the recipe's text") -> Recipe:
    """Read a recipe's text, as :func:`read_recipe` reads a file; ``where`` names it in an error."""
    return Recipe(**_fields(text, overrides, where=where))


def _fields(text: str, overrides: Sequence[str], *, where: str) -> dict[str, Any]:
    try:
        data = parse(text)
    except SpecError as error:
        place = f"{where}, {error.where}" if error.where else where
        raise SpecError(error.what, where=place, expected=error.expected, got=error.got) from None
    for override in overrides:
        data = override_with(data, override)
    return data
