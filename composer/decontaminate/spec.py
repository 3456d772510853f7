"""What is looked for in training rows, and what counts as found."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from composer.errors import SpecError
from composer.spec import Spec
from composer.types import Role, Source

VALIDATION = "validation"


class EvaluationSet(Source):
    """A named set that is measured elsewhere: anything that a source can be.

    ``only`` names the columns whose strings are its texts; all of them when it is empty.
    """

    domain: str = Field(default="evaluation", pattern=r"^[\w.-]+$")
    role: Role = "validation"
    split: str = "test"
    only: tuple[str, ...] = ()


class Decontaminate(Spec):
    """Finds rows to train on that hold texts of evaluation sets.

    Every string in a row of a set is a text of it, however deep it lies. A row is contaminated where more than the share
    ``min_share`` of its n-grams of ``ngram`` words stand in texts of a set. Words have no case, and punctuation is none. An
    n-gram that more than ``common`` rows have is a template or a phrase and no evidence; null counts every one. A text of fewer
    than ``ngram`` words, but at least ``shortest``, is found where a line of a row consists of its words and of nothing else;
    labels and names, which are shorter, are no evidence.

    ``validation`` adds the recipe's validation sources as a set of that name. Contaminated rows are dropped, or only reported
    with ``action: report``.

    References
    ----------
    Brown et al., Language Models are Few-Shot Learners, arXiv:2005.14165, appendix C (13-grams without case and punctuation;
    those that match more than ten training documents are ignored).

    Examples
    --------
    >>> Decontaminate(validation=True).ngram
    13
    >>> Decontaminate()
    Traceback (most recent call last):
    composer.errors.SpecError: against: no evaluation sets; expected a list of {name, path}, or validation: true
    """

    against: tuple[EvaluationSet, ...] = ()
    validation: bool = False
    ngram: int = Field(default=13, ge=1)
    min_share: float = Field(default=0.0, ge=0, lt=1)
    common: int | None = Field(default=10, ge=1)
    shortest: int = Field(default=5, ge=1)
    action: Literal["drop", "report"] = "drop"

    @model_validator(mode="after")
    def _names(self) -> Decontaminate:
        names = [each.name for each in self.against] + [VALIDATION] * self.validation
        if twice := {name for name in names if names.count(name) > 1}:
            raise SpecError("two evaluation sets share a name", where="against", got=", ".join(sorted(twice)))
        if not names:
            raise SpecError("no evaluation sets", where="against", expected="a list of {name, path}, or validation: true")
        return self
