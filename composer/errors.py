"""One tree of errors; every message says what, where, what was expected, what came, and the way out.

The tree::

    ComposerError
    ├── InputError        the user's input is wrong                         exit code 2
    │   ├── SpecError         a recipe or a config: unknown field, wrong value
    │   ├── SourceError       a data source: missing, unreadable, without rows
    │   └── ModelError        a model or a tokenizer that cannot be used
    ├── CheckError        a check that the user asked for did not hold      exit code 1
    └── FaultError        ours or the machine's                             exit code 3
        └── StoreError        an artifact that is damaged or cannot be written
"""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import ClassVar, Self

from composer.secrets import without_secrets


class ComposerError(Exception):
    """An error that reads as one line and names no secret (:mod:`composer.secrets`).

    Parameters
    ----------
    what
        What is wrong, in a few words.
    where
        Recipe field, source, row or file.
    expected, got
        What would have been right and what came instead.
    hint
        The way out.

    Examples
    --------
    >>> print(SpecError("not a law", where="law.name", expected="uniform or explicit", got="unform", hint="uniform?"))
    law.name: not a law; expected uniform or explicit; got unform; uniform?
    """

    exit_code: ClassVar[int] = 3

    def __init__(self, what: str, *, where: str = "", expected: str = "", got: object = "", hint: str = "") -> None:
        super().__init__(what)
        self.what, self.where, self.expected, self.got, self.hint = what, where, expected, got, hint

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        parts = [head]
        if self.expected:
            parts.append(f"expected {self.expected}")
        if self.got != "":
            parts.append(f"got {self.got}")
        if self.hint:
            parts.append(self.hint)
        return without_secrets("; ".join(" ".join(part.split()) for part in parts))

    def within(self, field: str) -> Self:
        """Return the same error with ``field`` put in front of where it happened."""
        where = f"{field}.{self.where}" if self.where else field
        return type(self)(self.what, where=where, expected=self.expected, got=self.got, hint=self.hint)


class InputError(ComposerError):
    """What the user gave cannot be used."""

    exit_code = 2


class SpecError(InputError):
    """A recipe or a config has an unknown field or a wrong value."""


class SourceError(InputError):
    """A data source is missing, unreadable or without rows."""


class ModelError(InputError):
    """A model or a tokenizer cannot be used."""


class CheckError(ComposerError):
    """A check that the user asked for did not hold."""

    exit_code = 1


class FaultError(ComposerError):
    """A fault of ours or of the machine."""


class StoreError(FaultError):
    """An artifact is damaged, or the store cannot be read or written."""


@contextmanager
def unsaid() -> Iterator[None]:
    """Let no error out that tells a secret, as those of other libraries may, or the errors that it was raised from.

    Raises
    ------
    FaultError, RuntimeError
        In place of an OSError and of any other error that would: what it says with the secret hidden, and no traceback.

    Examples
    --------
    >>> with unsaid():
    ...     raise ValueError("no answer of https://jo:pw@host/v1")  # pragma: allowlist secret
    Traceback (most recent call last):
    RuntimeError: ValueError: no answer of https://***@host/v1
    """
    try:
        yield
    except Exception as error:
        told = "".join(traceback.format_exception(error))
        if without_secrets(told) == told:
            raise
        if isinstance(error, ComposerError):
            raise error from None
        kind = FaultError if isinstance(error, OSError) else RuntimeError
        raise kind(f"{type(error).__name__}: {without_secrets(str(error))}") from None


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``did you mean 'x'?`` for the nearest known word, or the list of known words.

    Examples
    --------
    >>> nearest("unifrom", ["uniform", "explicit"])
    "did you mean 'uniform'?"
    >>> nearest("zzz", ["uniform", "explicit"])
    'known: explicit, uniform'
    """
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(names)}"
