"""The one spelling of a tag: case, special characters and, where languages are named, lemmas.

Spelling a tag is a function of the tag alone, and spelling it twice changes nothing; so a pool of tags can be looked up by
spelling. Lemmas come from the dictionaries of simplemma: pure Python, about fifty languages in one wheel, nothing to download
later. It knows no parts of speech, so a word has one lemma wherever it stands; and as case is gone by then, a German noun and a
verb of one form are one.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from functools import cache

from composer.errors import SpecError


class _Spaces(dict[int, int]):
    """A table for ``str.translate``: letters, marks and numbers stay, everything else becomes a space."""

    def __missing__(self, code: int) -> int:
        self[code] = code if unicodedata.category(chr(code))[0] in "LMN" else 0x20
        return self[code]


_SPACES = _Spaces()


def normalise(tag: str) -> str:
    """Return a tag in NFKC, case folded, anything but letters, marks and numbers as a single space.

    Letters of every script and digits stay, so that such tags do not all become the same empty one. A tag without any comes out
    empty; drop it.

    Examples
    --------
    >>> normalise("  Multi-Label: Classification! "), normalise("Übersetzung №2"), normalise("翻译，2 句"), normalise("?!")
    ('multi label classification', 'übersetzung no2', '翻译 2 句', '')
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", tag).casefold())
    return " ".join(folded.translate(_SPACES).split())


def speller(languages: tuple[str, ...] = ()) -> Callable[[str], str]:
    """Return the function that spells a tag: normalised, and each word by its lemma in the first language that knows it.

    A word that is in no dictionary stays. Dictionaries have chains, so a lemma is looked up again until it is its own; of
    words that lead to each other in a circle the first in the alphabet is taken.

    Raises
    ------
    SpecError
        For a language without a dictionary, or where simplemma is not installed.
    """
    if not languages:
        return normalise
    lemma = _lemmatiser(languages)

    @cache
    def root(word: str) -> str:
        path = [word]
        while (word := lemma(word)) not in path:
            path.append(word)
        return min(path[path.index(word) :])

    return lambda tag: " ".join(map(root, normalise(tag).split()))


def _lemmatiser(languages: tuple[str, ...]) -> Callable[[str], str]:
    try:
        from simplemma import lemmatize
    except ImportError:
        hint = "pip install 'sft-composer[lemmas]', or leave lemmas empty"
        raise SpecError("lemmas need the package simplemma", where="tags.lemmas", hint=hint) from None
    try:
        for language in languages:
            lemmatize("word", lang=language)
    except ValueError:
        expected = "languages of simplemma, such as en, de or ru"
        raise SpecError("no dictionary", where="tags.lemmas", got=", ".join(languages), expected=expected) from None

    def lemma(word: str) -> str:
        found = normalise(lemmatize(word, lang=languages))
        return found if found and " " not in found else word

    return lemma
