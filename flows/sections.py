"""The parts of a recipe that are of no family: the base model, what is measured, and the map of coverage."""

from __future__ import annotations

from pydantic import Field, model_validator

from composer.spec import Spec, outside_identity
from composer.train import Base


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
    """What is measured on held-out rows, before and after training: at most ``max_samples`` rows of each domain.

    With ``experts`` every group of a sequence is also trained alone, from the base, and measured: the upper bound by which
    InsCL's relative gain divides.
    """

    max_samples: int | None = Field(default=200, ge=1)
    experts: bool = False


class Coverage(Spec):
    """A map of what the coming domains leave uncovered: an old instruction is covered by new ones within the cost ``near``.

    ``plan`` keeps the transport plan itself beside the map.
    """

    near: float = Field(default=0.5, gt=0, le=2)
    plan: bool = False
