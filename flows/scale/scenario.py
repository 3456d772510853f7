"""A scenario: a cluster, what is read on it and with which model. Decimal units: 1 GB is 10^9 bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, model_validator

from composer.errors import SpecError
from composer.spec import Spec
from flows.yaml_text import override_with, parse

GB, TERA = 1e9, 1e12


class Gpu(Spec):
    """One GPU: its memory, its dense bfloat16 peak, and the rates at which it reads its memory and hears other GPUs."""

    memory_gb: float = Field(gt=0)
    tflops: float = Field(gt=0)
    memory_gb_per_s: float = Field(gt=0)
    network_gb_per_s: float = Field(gt=0)


class Cluster(Spec):
    """Equal nodes that share a disk. ``core_speed`` is that of a core over one of those on which the rates were measured."""

    nodes: int = Field(ge=1)
    cores: int = Field(ge=1)
    memory_gb: float = Field(gt=0)
    disk_gb: float = Field(gt=0)
    disk_gb_per_s: float = Field(gt=0)
    gpus: int = Field(default=0, ge=0)
    gpu: Gpu | None = None
    core_speed: float = Field(default=1.0, gt=0)
    price_per_node_hour: float = Field(default=0.0, ge=0)
    currency: str = "USD"

    @model_validator(mode="after")
    def _gpus(self) -> Cluster:
        if (self.gpus > 0) != (self.gpu is not None):
            raise SpecError(
                "GPUs are a number and a kind", where="gpu", expected="both gpus and gpu, or neither", got=self.gpus
            )
        return self


class Data(Spec):
    """What the sources hold: ``rows`` in all, spread evenly over the sources, or of each source by name; bytes are of text.

    ``loss_share`` of the tokens is trained on; ``instructions`` counts the distinct ones of all sources.
    """

    rows: int | dict[str, int]
    bytes_per_row: float = Field(gt=0)
    tokens_per_row: float = Field(gt=0)
    loss_share: float = Field(gt=0, le=1)
    instructions: int = Field(ge=1)
    bytes_per_instruction: float = Field(gt=0)
    tokens_per_instruction: float = Field(gt=0)

    @model_validator(mode="after")
    def _counts(self) -> Data:
        counts = self.rows.values() if isinstance(self.rows, dict) else [self.rows]
        if not counts or min(counts) < 1:
            raise SpecError("no rows", where="rows", expected="at least 1 of every source", got=self.rows)
        return self

    def of(self, source: str, n_sources: int) -> float:
        """Return the rows of one source.

        Raises
        ------
        SpecError
            Where rows are stated source by source, and this one is not among them.
        """
        if isinstance(self.rows, int):
            return self.rows / n_sources
        if source not in self.rows:
            raise SpecError("no rows stated for a source", where="data.rows", got=source, expected=", ".join(self.rows))
        return float(self.rows[source])


class Model(Spec):
    """The base model's shape, and of what an adapter moves the number of parameters; a recipe's own small base needs none."""

    parameters: float = Field(gt=0)
    layers: int = Field(ge=1)
    hidden: int = Field(ge=1)
    vocabulary: int = Field(ge=1)
    kv_bytes_per_token: float = Field(gt=0)
    adapter_parameters: float = Field(default=0.0, ge=0)


class Encoder(Spec):
    """The sentence model that embeds instructions."""

    parameters: float = Field(gt=0)
    dims: int = Field(ge=1)


class Scenario(Spec):
    """A cluster, the data and the models. ``rates`` states rates of one's own in place of those that were measured."""

    name: str
    cluster: Cluster
    data: Data
    model: Model
    encoder: Encoder | None = None
    rates: dict[str, float] = {}


def read_scenario(path: str | Path, overrides: Sequence[str] = ()) -> Scenario:
    """Read a scenario and its ``key=value`` overrides.

    Raises
    ------
    SpecError
        For a missing file, broken YAML (with its line), an unknown field or a wrong value.
    """
    file = Path(path)
    if not file.is_file():
        hint = "see docs/scale/cluster.yaml for an example"
        raise SpecError("no such scenario", where="--at", got=str(path), expected="a YAML file", hint=hint)
    data = parse(file.read_text(encoding="utf-8"))
    for override in overrides:
        data = override_with(data, override)
    return Scenario(**data)
