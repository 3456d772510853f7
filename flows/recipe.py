"""Recipe: one YAML document is the whole experiment.

Unknown fields are refused by name. ``key=value`` overrides come after the file: ``law.floor=0.05``, ``sources.0.limit=100``.
Relative paths start at ``root``, which is the current directory unless the recipe says otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, model_validator

from composer.decontaminate import Decontaminate
from composer.dedup import DEDUP
from composer.errors import InputError, SpecError, nearest
from composer.export import EXPORTERS
from composer.ingest.location import is_hub_id
from composer.laws import LAWS
from composer.replay import REPLAY
from composer.select import SELECTORS
from composer.similarity import DISTANCES
from composer.spec import Spec, member_of, members_of, outside_identity
from composer.train import Base, Train
from composer.types import Budget, Source
from probes.embed import EMBEDDERS
from probes.engines import ENGINES
from probes.knowledge import KNOWLEDGE
from probes.tags import TAGGERS


class Corpus(Spec):
    """Plain documents of one domain, to train a small base model on: a Parquet or JSONL file and the column of its text.

    ``max_chars`` keeps the beginning of each document, so that a small token budget shows many of them.
    """

    path: str = outside_identity(...)
    column: str = "text"
    where: dict[str, str] = {}
    max_chars: int | None = Field(default=None, ge=1)


class BaseModel(Spec):
    """The model to start from: a ``path`` (folder or Hub id), or ``train`` with ``corpora`` to make a small one on the spot."""

    path: str | None = outside_identity(None)
    revision: str | None = None
    chat_template: str = outside_identity("auto")
    train: Base | None = None
    corpora: dict[str, Corpus] = {}

    @model_validator(mode="after")
    def _one_way(self) -> BaseModel:
        if (self.path is None) == (self.train is None):
            raise ValueError("give either path, or train with corpora")
        if self.train is not None and set(self.train.weights) != set(self.corpora):
            raise ValueError("train.weights and corpora must name the same domains")
        return self


class Evaluate(Spec):
    """What is measured on held-out rows, before and after training: at most ``max_samples`` rows of each domain."""

    max_samples: int | None = Field(default=200, ge=1)


class Recipe(Spec):
    """One experiment, from sources to a trained model and its retention report.

    ``domains`` is the order of every vector (the sources' order when absent). ``sequence`` lists groups of domains that are
    trained one after another; without it all target domains are mixed in one phase. ``max_dropped`` is the share of a source's
    rows that may be unusable before the doctor fails.
    """

    name: str = Field(pattern=r"^[\w.-]+$")
    seed: int = 0
    root: str = outside_identity(".")
    store: str = outside_identity("store")
    base_model: BaseModel
    domains: tuple[str, ...] = ()
    sources: tuple[Source, ...] = Field(min_length=1)
    max_length: int = Field(default=1024, ge=8)
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
    sequence: tuple[tuple[str, ...], ...] = ()
    budget: Budget = Budget()
    exports: members_of(EXPORTERS, kind="exporter") = ("parquet",)  # type: ignore[valid-type]
    train: Train | None = Train()
    evaluate: Evaluate = Evaluate()

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        data = dict(data)
        groups = data.get("sequence") or ()
        data["sequence"] = [[group] if isinstance(group, str) else group for group in groups]
        return data

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
        """The groups of domains that are trained one after another."""
        return self.sequence or (self.targets,)

    def at(self, path: str) -> Path:
        """Return a path of the recipe as a path from here."""
        return Path(self.root).expanduser() / Path(path).expanduser()

    def located(self, source: Source) -> Source:
        """Return the source with its local path made to start at ``root``; a Hub id stays as it is."""
        local = self.at(source.path)
        is_hub = is_hub_id(source.path) and not local.exists()
        return source if is_hub else source.model_copy(update={"path": str(local)})


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice, where YAML would keep the last in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: list[Any] = []  # a key may be unhashable, which the loader below names
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' is given twice", key_node.start_mark)
            seen.append(key)
        return super().construct_mapping(node, deep)


def read_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and its ``key=value`` overrides.

    Raises
    ------
    SpecError
        For a missing file, broken YAML (with its line), an unknown field or a wrong value.
    """
    file = Path(path)
    if not file.is_file():
        hint = "see flows/recipes for examples"
        raise SpecError("no such recipe", where="RECIPE", got=str(path), expected="a YAML file", hint=hint)
    try:
        data = parse(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise SpecError(f"not UTF-8: {error.reason}", where=str(path)) from None
    except SpecError as error:
        place = f"{path}, {error.where}" if error.where else str(path)
        raise SpecError(error.what, where=place, expected=error.expected, got=error.got) from None
    for override in overrides:
        data = override_with(data, override)
    return Recipe(**data)


def parse(text: str) -> dict[str, Any]:
    """Parse YAML safely into a mapping, or say in which line it is broken."""
    try:
        data = yaml.load(text, Loader=_Loader)  # noqa: S506 - a subclass of SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}" if mark else "somewhere"
        raise SpecError(f"broken YAML: {getattr(error, 'problem', None) or 'not YAML'}", where=line) from None
    if not isinstance(data, dict):
        raise SpecError("not a recipe", expected="a mapping with name, base_model, sources ...", got=type(data).__name__)
    return data


def override_with(data: dict[str, Any], override: str) -> dict[str, Any]:
    """Return the data with one ``key=value`` set; the value is YAML, list items are named by number.

    Examples
    --------
    >>> override_with({"law": {"name": "knowledge"}}, "law.floor=0.1")
    {'law': {'name': 'knowledge', 'floor': 0.1}}
    """
    key, sign, value = override.partition("=")
    if not sign or not key:
        raise InputError("not an override", got=override, expected="key=value, such as law.floor=0.05")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError:
        raise InputError("the value of an override is not YAML", where=key, got=value) from None
    out: Any = _set(data, key.split("."), parsed, key)
    return dict(out)


def _set(data: Any, path: list[str], value: Any, key: str) -> Any:
    if not path:
        return value
    if isinstance(data, list):
        if not path[0].isdigit() or int(path[0]) >= len(data):
            raise InputError("no such list item", where=key, expected=f"0 to {len(data) - 1}", got=path[0])
        return [_set(item, path[1:], value, key) if i == int(path[0]) else item for i, item in enumerate(data)]
    if isinstance(data, str) and path:  # a family's word gets fields: {name: word, field: value}
        data = {"name": data}
    return {**(data or {}), path[0]: _set((data or {}).get(path[0]), path[1:], value, key)}
