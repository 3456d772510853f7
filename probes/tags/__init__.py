"""Taggers: what an instruction asks for, as a few short tags; InsInfo counts them."""

from __future__ import annotations

import unicodedata
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from composer.spec import Spec


class Tagger(Spec):
    """A way to name what texts are about."""

    name: str
    summary: ClassVar[str]
    reference: ClassVar[str]

    @abstractmethod
    def tag(self, texts: Sequence[str]) -> list[tuple[str, ...]]:
        """Return the distinct, normalised tags of every text, the best first; a text may have none."""


class _Spaces(dict[int, int]):
    """A table for ``str.translate``: letters, marks and numbers stay, everything else becomes a space."""

    def __missing__(self, code: int) -> int:
        self[code] = code if unicodedata.category(chr(code))[0] in "LMN" else 0x20
        return self[code]


_SPACES = _Spaces()


def normalise(tag: str) -> str:
    """Return the one spelling of a tag: NFKC, case folded, anything but letters, marks and numbers as a single space.

    Letters of every script and digits stay, so that such tags do not all become the same empty one. A tag without any comes out
    empty; drop it.

    Examples
    --------
    >>> normalise("  Multi-Label: Classification! "), normalise("Übersetzung №2"), normalise("翻译，2 句"), normalise("?!")
    ('multi label classification', 'übersetzung no2', '翻译 2 句', '')
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", tag).casefold())
    return " ".join(folded.translate(_SPACES).split())


from probes.tags.keyphrase import Keyphrase  # noqa: E402  members build on what stands above

TAGGERS: dict[str, type[Tagger]] = {"keyphrase": Keyphrase}
