"""The parts of a recipe that are of no family: the base model, what is measured, the map of coverage, and ``only``."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from composer.errors import SpecError, nearest
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


def narrowed(data: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe's fields with what belongs to the domains of ``only`` alone.

    Raises
    ------
    SpecError
        For a domain that no source feeds.
    """
    only = [data["only"]] if isinstance(data["only"], str) else list(data["only"])
    fed = [source.get("domain") if isinstance(source, dict) else source.domain for source in data.get("sources") or ()]
    for domain in only:
        if domain not in fed:
            raise SpecError(f"no source feeds domain '{domain}'", where="only", hint=nearest(domain, [d for d in fed if d]))
    groups = [[domain for domain in group if domain in only] for group in data["sequence"]]
    return data | {
        "only": only,
        "sources": [source for source, domain in zip(data.get("sources") or (), fed, strict=True) if domain in only],
        "domains": [domain for domain in data.get("domains") or () if domain in only],
        "sequence": [group for group in groups if group],
    }
