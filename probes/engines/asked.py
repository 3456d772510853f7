"""What may be asked of a session: the checks that all engines make alike, before a model sees anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from composer.errors import InputError, ModelError


def check_completion(*, max_new_tokens: int, temperature: float) -> None:
    """Refuse a completion of nothing, or at a negative temperature.

    Examples
    --------
    >>> check_completion(max_new_tokens=0, temperature=1.0)
    Traceback (most recent call last):
    composer.errors.InputError: cannot complete so; expected max_new_tokens of at least 1 and a temperature of at least 0; ...
    """
    if max_new_tokens < 1 or not temperature >= 0:
        expected = "max_new_tokens of at least 1 and a temperature of at least 0"
        raise InputError("cannot complete so", expected=expected, got=f"{max_new_tokens} and {temperature}")


@dataclass(frozen=True)
class Limits:
    """A model's vocabulary, tokens 0 to ``vocabulary - 1``, and how many tokens a sequence may have, where that is known."""

    vocabulary: int
    positions: int | None

    def check(self, sequences: Sequence[Sequence[int]], *, more: int = 0) -> None:
        """Refuse what no model reads: nothing, other tokens, or more of them than there is room for with ``more`` to come.

        Raises
        ------
        InputError, ModelError
            With the number of the sequence.
        """
        for i, ids in enumerate(sequences):
            if not len(ids):
                raise InputError("a sequence without tokens", where=f"sequence {i}")
            if min(ids) < 0 or max(ids) >= self.vocabulary:
                expected = f"0 to {self.vocabulary - 1}"
                raise InputError("a token outside the vocabulary", where=f"sequence {i}", expected=expected)
            if self.positions is not None and len(ids) + more > self.positions:
                got = f"{len(ids)} tokens and {more} to come" if more else f"{len(ids)} tokens"
                raise ModelError(
                    "more tokens than the model has positions for", expected=f"at most {self.positions}", got=got,
                    hint="lower max_length or max_new_tokens",
                )  # fmt: skip

    def check_choices(self, choices: Sequence[int]) -> None:
        """Refuse choices that are none: nothing, one token twice, or other tokens.

        Raises
        ------
        InputError
            With the choices.
        """
        if not choices or len(set(choices)) < len(choices):
            raise InputError("nothing to choose from", expected="distinct tokens", got=list(choices))
        self.check([[choice] for choice in choices])
