"""What a page is about: a run, or any other artifact, with everything that belongs to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl

from composer import tables
from composer.artifact import Artifact

WORDS = {"model": "training", "samples": "pool"}


@dataclass(frozen=True)
class Record:
    """An artifact and what it was made from, in the order of the story; the last of a kind speaks for it."""

    name: str
    artifact: Artifact
    members: tuple[Artifact, ...]
    missing: int = 0
    """How many of its artifacts are no longer in the store."""

    def every(self, kind: str) -> list[Artifact]:
        """Return all members of a kind."""
        return [each for each in self.members if each.kind == kind]

    def last(self, kind: str) -> Artifact | None:
        """Return the last member of a kind."""
        return next(reversed(self.every(kind)), None)

    def json(self, kind: str, name: str) -> Any:
        """Return a JSON file of the last member of a kind, or None."""
        found = self.last(kind)
        return found.json(name) if found and name in found.manifest.files else None

    @cached_property
    def report(self) -> Mapping[str, Any]:
        """What the composition planned and realised; empty where nothing was composed."""
        return self.json("composition", "report.json") or {}

    @cached_property
    def unit(self) -> str:
        """The unit of the weights, in words."""
        mixture = self.json("mixture", "mixture.json") or {"unit": "loss_tokens"}
        return str(mixture["unit"]).replace("_", " ").replace("samples", "rows")

    @cached_property
    def domains(self) -> tuple[str, ...]:
        """The domains in the recipe's order, the earlier ones last."""
        mixture = self.json("mixture", "mixture.json")
        named = [each["domain"] for each in self.report.get("domains", [])]
        return tuple(dict.fromkeys([*(mixture["domains"] if mixture else []), *named]))

    @cached_property
    def phases(self) -> list[Mapping[str, Any]]:
        """The phases of the schedule: name, amount, mixture, current."""
        return list((self.json("schedule", "schedule.json") or {"phases": []})["phases"])

    @cached_property
    def retention(self) -> Mapping[str, Any]:
        """What was kept from stage to stage; empty where nothing was measured twice."""
        return self.json("retention", "retention.json") or {}

    @cached_property
    def evaluations(self) -> list[Artifact]:
        """The measurements of the stages of training, in their order."""
        found = self.last("retention")
        keys = found.manifest.inputs["evaluations"] if found else []
        return self._of(keys)

    @cached_property
    def models(self) -> list[Artifact]:
        """The models of the stages of training, in their order; experts that were trained aside are not among them."""
        keys = [each.manifest.inputs.get("trained") for each in self.evaluations]
        return self._of([key for key in keys if key]) or [m for m in self.every("model") if "only" not in m.manifest.spec]

    def _of(self, keys: list[str]) -> list[Artifact]:
        known = {each.key: each for each in self.members}
        return [known[key] for key in keys if key in known]

    @cached_property
    def composition(self) -> pl.DataFrame | None:
        """The rows in their order, as COMPOSITION."""
        found = self.last("composition")
        return tables.read(found.file("composition.parquet"), tables.COMPOSITION) if found else None

    def samples(self, *columns: str, only: pl.Series | None = None) -> pl.DataFrame:
        """Return some columns of the pool, its rows in their places, or of the samples with the ids ``only``."""
        found = self.last("samples")
        if found is None:
            return pl.DataFrame(schema={name: tables.SAMPLE[name] for name in columns})
        rows = pl.scan_parquet(found.file("samples.parquet")).select(columns)
        return (rows if only is None else rows.filter(pl.col("sample_id").is_in(only.implode()))).collect()

    def in_order(self, names: Iterable[str]) -> list[str]:
        """Return the distinct names, domains in the order of the recipe and all others behind them."""
        there = dict.fromkeys(names)
        return [*(domain for domain in self.domains if domain in there), *(each for each in there if each not in self.domains)]

    def phase_of(self, artifact: Artifact) -> str:
        """Return the name of the phase that an artifact was made for."""
        phase = int(artifact.manifest.spec.get("phase", 0))
        return str(self.phases[phase]["name"]) if phase < len(self.phases) else f"{phase + 1}"

    def label(self, artifact: Artifact) -> str:
        """Return what an artifact is of this run: its kind, and of which source, phase or stage."""
        spec = artifact.manifest.spec
        if artifact.kind == "source":
            return f"source {spec['source']['name']}"
        if artifact in self.evaluations:
            stage = self.retention["stages"][self.evaluations.index(artifact)]
            return "evaluation before training" if stage == "before" else f"evaluation after {stage}"
        if artifact.kind in ("model", "mask") and len(self.phases) > 1 and "phase" in spec:
            word = WORDS.get(artifact.kind, artifact.kind)
            return f"{word} {self.phase_of(artifact)}" + (
                "" if artifact.kind == "mask" or artifact in self.models else ", alone"
            )
        word = WORDS.get(artifact.kind, artifact.kind)
        return f"{word} {spec['only']}" if "only" in spec else word
