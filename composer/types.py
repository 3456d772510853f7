"""The values that travel between stages: frozen, validated, plain JSON on disk.

``D`` is the number of domains, always in the recipe's order. Mathematics takes float64 arrays from these values by ``array``.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from composer.errors import InputError, SpecError
from composer.similarity_matrix import SimilarityMatrix as SimilarityMatrix
from composer.spec import Spec, outside_identity

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

Unit = Literal["loss_tokens", "tokens", "samples"]
Role = Literal["target", "replay", "validation", "reference"]
LossOn = Literal["all", "last"]
Shape = Literal["auto", "messages", "sharegpt", "alpaca", "prompt_completion", "question_answer", "text"]

TOLERANCE = 1e-9


def array(values: Iterable[Any]) -> np.ndarray:
    """Return a float64 array of the values (nested tuples become rows)."""
    import numpy as np

    return np.asarray(tuple(values), dtype=np.float64)


def _check_simplex(values: tuple[float, ...], domains: tuple[str, ...], what: str) -> None:
    if len(values) != len(domains):
        raise SpecError(f"{what} do not match the domains", expected=f"{len(domains)} values", got=len(values))
    if any(not math.isfinite(v) or v < 0 for v in values):
        raise SpecError(f"{what} must be finite and not negative", got=list(values))
    if abs(sum(values) - 1) > TOLERANCE * max(1, len(values)):
        raise SpecError(f"{what} must sum to 1", got=sum(values))


class Source(Spec):
    """One source of rows: where it lies, which domain it feeds and what it is used for.

    A path is a local file, folder or glob, or ``org/name`` on the Hugging Face Hub. ``where`` keeps only rows whose column has
    the given value, such as ``{split: train}``. ``license`` is an SPDX name, or ``from_row`` to read the row's ``license``
    column. ``encoding`` is read off a byte order mark (UTF-8 without one) unless it is declared.

    ``columns`` maps fields of a shape to the columns that hold them, ``{prompt: ask, completion: reply}``, and ``role`` and
    ``content`` to keys inside the turns of a conversation; ``roles`` maps a data set's speakers to the words of its shape,
    ``{bot: assistant}``.

    Roles: ``target`` is trained on; ``replay`` is earlier data; ``validation`` is only measured; ``reference`` shows a judge
    what a domain looks like and is neither trained on nor measured.
    """

    name: str = Field(pattern=r"^[\w.-]+$")
    path: str = outside_identity(...)
    domain: str = Field(pattern=r"^[\w.-]+$")
    role: Role = "target"
    license: str = "unknown"
    adapter: Shape = "auto"
    revision: str | None = None
    subset: str | None = None
    split: str = "train"
    encoding: str = "auto"
    columns: dict[str, str] = {}
    roles: dict[str, str] = {}
    where: dict[str, str] = {}
    limit: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _check(self) -> Source:
        if self.encoding != "auto":
            try:
                codecs.lookup(self.encoding)
            except LookupError:
                expected = "auto, or an encoding that Python knows, such as utf-16 or cp1252"
                raise SpecError("unknown encoding", where="encoding", got=self.encoding, expected=expected) from None
        return self


class KnowledgeDistribution(Spec):
    """What a base model already knows: a share per domain, with its standard error and its 95 % interval.

    ``n`` samples were judged and ``rejected`` could not be; ``accuracy`` is the judge's cross-validated accuracy, and probes of
    equal ``judge`` had equal judges. ``stderr``, ``low`` and ``high`` cover the sampling of texts alone, ``low_with_judge`` and
    ``high_with_judge`` the choice of the judge's reference texts as well; ``note`` says what neither covers. Every sample began
    with the token ``begun_with``, ``n_tokens`` were generated, and ``stopped`` says what ended it.
    """

    domains: tuple[str, ...]
    p: tuple[float, ...]
    stderr: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    low_with_judge: tuple[float, ...] | None = None
    high_with_judge: tuple[float, ...] | None = None
    n: int = Field(ge=1)
    rejected: int = Field(default=0, ge=0)
    n_tokens: int = Field(default=0, ge=0)
    stopped: Literal["", "samples", "width", "tokens"] = ""
    begun_with: str = ""
    accuracy: float | None = None
    judge: str = ""
    model: str = ""
    probe: str = ""
    note: str = ""

    @model_validator(mode="after")
    def _check(self) -> KnowledgeDistribution:
        _check_simplex(self.p, self.domains, "knowledge shares")
        return self


class Mixture(Spec):
    """Domain weights: shares of the stated unit that sum to one, and the law that gave them.

    Examples
    --------
    >>> Mixture(domains=("law", "code"), weights=(0.25, 0.75), law="explicit").share("code")
    0.75
    """

    domains: tuple[str, ...]
    weights: tuple[float, ...]
    unit: Unit = "loss_tokens"
    law: str = ""

    @model_validator(mode="after")
    def _check(self) -> Mixture:
        if len(set(self.domains)) != len(self.domains):
            raise SpecError("a mixture names a domain twice", got=list(self.domains))
        _check_simplex(self.weights, self.domains, "mixture weights")
        return self

    def share(self, domain: str) -> float:
        """Return a domain's weight, zero where the mixture does not name it."""
        return self.weights[self.domains.index(domain)] if domain in self.domains else 0.0


class Phase(Spec):
    """One stretch of training: how much of what mixture; ``current`` domains are new, the others are replayed."""

    name: str
    amount: int = Field(ge=0)
    mixture: Mixture
    current: tuple[str, ...]


class Schedule(Spec):
    """Phases one after another; a mixture is a schedule of one phase.

    Examples
    --------
    >>> mixture = Mixture(domains=("a",), weights=(1.0,))
    >>> plan = Schedule(phases=(Phase(name="one", amount=10, mixture=mixture, current=("a",)),))
    >>> plan.total, plan.at(9).name
    (10, 'one')
    """

    phases: tuple[Phase, ...] = Field(min_length=1)

    @property
    def total(self) -> int:
        """The sum of the phases' amounts, in the mixtures' unit."""
        return sum(phase.amount for phase in self.phases)

    @property
    def unit(self) -> Unit:
        """The unit of every phase."""
        return self.phases[0].mixture.unit

    @model_validator(mode="after")
    def _check(self) -> Schedule:
        if len({phase.mixture.unit for phase in self.phases}) > 1:
            raise SpecError("the phases of a schedule must share one unit")
        return self

    def at(self, position: int) -> Phase:
        """Return the phase that a position (0 <= position < total, in the unit) falls into."""
        left = position
        for phase in self.phases:
            if 0 <= left < phase.amount:
                return phase
            left -= phase.amount
        raise InputError("position outside the schedule", expected=f"0 to {self.total - 1}", got=position)


class Budget(Spec):
    """How much to train on: ``amount`` of the unit (all that is there when absent), each row at most ``max_repeats`` times."""

    amount: int | None = Field(default=None, ge=1)
    unit: Unit = "loss_tokens"
    max_repeats: int = Field(default=1, ge=1)


@dataclass(frozen=True, kw_only=True)
class ModelRef:
    """Where a model lies at run time: a folder or Hub id, and for peft adapters the folder that goes on top of it."""

    path: str
    adapter: str | None = None
    chat_template: str = "auto"


@dataclass(frozen=True, kw_only=True)
class MixContext:
    """What a law may read; a law names its ``needs`` and an absent one is an error, never a default.

    ``sizes`` is the amount that each domain can supply once, in the mixture's unit.
    """

    domains: tuple[str, ...]
    sizes: tuple[int, ...] | None = None
    knowledge: KnowledgeDistribution | None = None


@dataclass(frozen=True, kw_only=True)
class ReplayContext:
    """What a replay policy may read at one stage of a sequence.

    ``available`` is what each earlier domain can supply, in the schedule's unit; ``weights`` are the shares of the current
    domains; ``stage`` counts from zero. ``risk`` says of every earlier domain how far its instructions are at risk from the
    current ones, and ``forgetting`` by how many nats per token its loss has risen since its own stage.
    """

    stage: int
    earlier: tuple[str, ...]
    current: tuple[str, ...]
    weights: tuple[float, ...]
    available: tuple[int, ...]
    similarity: SimilarityMatrix | None = None
    risk: Mapping[str, float] | None = None
    forgetting: Mapping[str, float] | None = None


@dataclass(frozen=True, kw_only=True)
class SelectContext:
    """What a selector may read at one phase of a schedule; the tables are those of :mod:`composer.tables`.

    ``scores`` (SCORE) are of samples and ``instruction_scores`` (INSTRUCTION_SCORE) of instructions, with this phase's rows
    alone. ``embeddings`` (EMBEDDING) and ``clusters`` (CLUSTERS) are of instructions, ``sample_embeddings`` (SAMPLE_EMBEDDING)
    and ``answers`` (ANSWER) of samples. ``current`` (INSTRUCTION_COUNT) are the instructions of the phase's new domains.
    """

    scores: pl.DataFrame | None = None
    instruction_scores: pl.DataFrame | None = None
    embeddings: pl.DataFrame | None = None
    sample_embeddings: pl.DataFrame | None = None
    current: pl.DataFrame | None = None
    clusters: pl.DataFrame | None = None
    answers: pl.DataFrame | None = None


def need(context: MixContext | ReplayContext | SelectContext, field: str, *, who: str, hint: str) -> Any:
    """Return a field of a context, or say who needs it and how it is had.

    Raises
    ------
    SpecError
        Where the field is absent.
    """
    value = getattr(context, field)
    if value is None:
        raise SpecError(f"needs {field}, which this run does not have", where=who, hint=hint)
    return value
