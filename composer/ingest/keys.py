"""What makes two rows copies of each other: 128 bits of their normalised text.

Normalised text is in Unicode's canonical composition (NFC), its whitespace runs are one space and its ends are bare. So a row
that was pasted, indented or encoded otherwise is a copy, and one that differs in a word, a letter's case or a role is none.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from composer.ingest.texts import Texts

_BEFORE = {word: f"\x1f{word}\x1e".encode() for word in ("system", "user", "assistant", "tool", "extras")}
"""What stands before a text; normalised text has neither separator, as both are whitespace to Python."""


def normal(text: str) -> str:
    """Return a text in its normal form.

    Examples
    --------
    >>> normal("  cafe\\u0301\\n au  lait ")
    'café au lait'
    """
    return " ".join((text if text.isascii() else unicodedata.normalize("NFC", text)).split())


def squeezed(text: str) -> str:
    """Return a text with its whitespace runs as one space, as instructions are compared."""
    return " ".join(text.split())


def key(messages: Sequence[Mapping[str, str]], extras: str | None = None) -> bytes:
    """Return the 16 bytes (xxh3-128) of a conversation's normalised text, with its roles and extras."""
    import xxhash

    said = b"".join(_BEFORE[message["role"]] + normal(message["content"]).encode() for message in messages)
    return bytes(xxhash.xxh3_128_digest(said + (_BEFORE["extras"] + extras.encode() if extras else b"")))


def flat_keys(texts: Texts, roles: Sequence[str], lengths: NDArray[np.int64]) -> tuple[list[bytes], NDArray[np.bool_]]:
    """Return the keys of conversations whose turns lie one after the other, and whether each is free of control characters."""
    from xxhash import xxh3_128_digest

    ends = np.cumsum(lengths)
    clean = np.ones(len(lengths), dtype=np.bool_)
    clean[np.searchsorted(ends, texts.controlled, side="right")] = False
    data, at = texts.data, texts.offsets.tolist()
    said = [data[a:b] for a, b in pairwise(at)]
    for place in texts.unusual.tolist():
        text = said[place]
        said[place] = b" ".join(text.split()) if text.isascii() else normal(text.decode()).encode()
    stream = [b""] * (2 * len(said))
    stream[0::2] = [_BEFORE[role] for role in roles]
    stream[1::2] = said
    stops = (2 * ends).tolist()
    return [xxh3_128_digest(b"".join(stream[a:b])) for a, b in pairwise([0, *stops])], clean
