"""Texts of data sets and models, made safe to look at."""

from __future__ import annotations

import re
from collections.abc import Callable


def printable(text: str, *, how: Callable[[int], str] = "\ufffd".format) -> str:
    """Return text without characters that a terminal obeys or that turn the direction of reading; lines and tabs stay.

    Texts of data sets and models are shown in terminals, and might otherwise move the cursor, set the title or hide what
    follows. ``how`` says what stands in place of a character, by its number.

    Examples
    --------
    >>> printable("a\\x1b]0;title\\x07b"), printable("\\x9b2J", how="<{}>".format)
    ('a\ufffd]0;title\ufffdb', '<155>2J')
    """
    return _OBEYED.sub(lambda found: how(ord(found[0])), text)


_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
