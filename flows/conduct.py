"""Conduct: how a run behaves when it is a flow. It says nothing of what comes out, so it lies outside every key.

Only what may pass is tried again: a network that is away, a disk that is full, memory that others hold. What the recipe or the
data say wrongly would be wrong again, and a stage that took all the time it may take would take it again.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from composer.errors import ComposerError, FaultError, SpecError, nearest
from composer.spec import Spec
from flows.command import STAGE_COMMANDS

USES_GPU = frozenset({"base", "reference", "mask", "train"})
"""Stages that train; those that ask an engine are known by having one."""
PASSING = frozenset({"httpx.TransportError", "httpx2.TransportError", "torch.OutOfMemoryError"})
"""Classes of errors of the machine that are no OSError, by name, so that none of their packages is imported for it."""

TIME_IS_UP = "prefect.TaskRunTimeoutError"


class OneStage(Spec):
    """What a single stage does otherwise than the others; what is left out is as for all."""

    retries: int | None = Field(default=None, ge=0, le=50)
    retry_delay_seconds: float | None = Field(default=None, ge=0)
    timeout_seconds: float | None = Field(default=None, gt=0)


class Gpu(Spec):
    """The global concurrency limit that a stage takes a slot of while it trains or asks an engine.

    ``slots`` is what ``serve`` and ``deploy`` make the limit with where the server has none of that name.
    """

    limit: str = Field(pattern=r"^[\w.-]+$")
    slots: int = Field(default=1, ge=1)


class Conduct(Spec):
    """How every stage is tried again, how long it may take, and what the run's tags are.

    Before try number ``i`` again Prefect waits ``retry_delay_seconds * 2**(i - 1)``, longer by a random part of at most
    ``retry_jitter``. ``stages`` names stages that differ.

    Examples
    --------
    >>> conduct = Conduct(retries=3, retry_delay_seconds=5, stages={"train": {"retries": 0}})
    >>> conduct.of("probe").retries, conduct.of("train").retries, conduct.of("train").retry_delay_seconds
    (3, 0, 5.0)
    >>> Conduct(stages={"trian": {"retries": 0}})
    Traceback (most recent call last):
    composer.errors.SpecError: stages.trian: no such stage; did you mean 'train'?
    """

    retries: int = Field(default=2, ge=0, le=50)
    retry_delay_seconds: float = Field(default=10.0, ge=0)
    retry_jitter: float = Field(default=0.5, ge=0)
    timeout_seconds: float | None = Field(default=None, gt=0)
    gpu: Gpu | None = None
    tags: tuple[str, ...] = ()
    stages: dict[str, OneStage] = {}

    @model_validator(mode="after")
    def _known(self) -> Conduct:
        for name in self.stages:
            if name not in STAGE_COMMANDS:
                raise SpecError("no such stage", where=f"stages.{name}", hint=nearest(name, STAGE_COMMANDS))
        return self

    def of(self, stage: str) -> Conduct:
        """Return how one stage is conducted."""
        own = self.stages.get(stage, OneStage())
        return self.model_copy(update={name: value for name, value in own if value is not None})


def passes(error: BaseException | None) -> bool:
    """Return whether an error is of the machine, and another try may go well.

    Examples
    --------
    >>> passes(ConnectionResetError("peer")), passes(SpecError("no such law")), passes(KeyError("x"))
    (True, False, False)
    """
    if isinstance(error, ComposerError):
        return isinstance(error, FaultError)
    names = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(error).__mro__}
    return TIME_IS_UP not in names and (isinstance(error, (OSError, MemoryError)) or bool(names & PASSING))


def uses_gpu(stage: str, values: Any) -> bool:
    """Return whether a stage trains, or one of its values is an engine or has one."""
    return (
        stage in USES_GPU or "engine" in values or any(getattr(value, "engine", None) is not None for value in values.values())
    )
