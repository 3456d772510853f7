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

ROLES = ("system", "user", "assistant", "tool")
_CODE = {role: code for code, role in enumerate((*ROLES, "extras"), start=1)}
_MIX, _WORD = 0x9E3779B97F4A7C15, 1 << 64  # an odd number, and the words in which it is taken to its powers


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
    """Return the 16 bytes (xxh3-128) of a conversation's normalised texts, one after the other, with its extras.

    Who says what is in the seed: ``sum((8 bytes_i + role_i) mix^i)`` over the turns, modulo ``2^64``.
    """
    import xxhash

    said = [(message["role"], normal(message["content"]).encode()) for message in messages]
    said += [("extras", extras.encode())] if extras else []
    seed = sum((8 * len(text) + _CODE[role]) * pow(_MIX, i, _WORD) for i, (role, text) in enumerate(said)) % _WORD
    return bytes(xxhash.xxh3_128_digest(b"".join(text for _, text in said), seed))


def flat_keys(texts: Texts, roles: NDArray[np.int64], lengths: NDArray[np.int64]) -> tuple[list[bytes], NDArray[np.bool_]]:
    """Return the keys of conversations whose turns lie one after the other, and whether each is free of control characters.

    ``roles`` are places in :data:`ROLES`; ``lengths`` are turns of each conversation, none of them empty.
    """
    from xxhash import xxh3_128_digest

    ends = np.cumsum(lengths)
    begins = ends - lengths
    data, at = texts.spaced
    sizes, other = np.diff(at), dict[int, bytes]()
    for place, begin, end in zip(*_stretches(texts.uneven, texts.offsets), strict=True):
        other[place] = normal(texts.text(begin, end)).encode()
        sizes[place] = len(other[place])
    seeds = _seeds(sizes, roles, begins).tolist()
    found = [xxh3_128_digest(data[a:b], seed) for (a, b), seed in zip(pairwise([0, *at[ends].tolist()]), seeds, strict=True)]
    for row in np.unique(np.searchsorted(ends, texts.uneven, side="right")).tolist():
        said = (other[i] if i in other else data[at[i] : at[i + 1]] for i in range(begins[row], ends[row]))
        found[row] = xxh3_128_digest(b"".join(said), seeds[row])
    clean = np.ones(len(lengths), dtype=np.bool_)
    clean[np.searchsorted(ends, texts.controlled, side="right")] = False
    return found, clean


def _stretches(places: NDArray[np.int64], offsets: NDArray[np.int64]) -> tuple[list[int], list[int], list[int]]:
    return places.tolist(), offsets[places].tolist(), offsets[places + 1].tolist()


def _seeds(sizes: NDArray[np.int64], roles: NDArray[np.int64], begins: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return the seed of each conversation (see :func:`key`)."""
    n = len(sizes)
    turn = np.arange(n) - np.repeat(begins, np.diff(np.append(begins, n)))
    powers = np.array([pow(_MIX, i, _WORD) for i in range(int(turn.max(initial=0)) + 1)], dtype=np.uint64)
    terms = (8 * sizes + roles + 1).astype(np.uint64) * powers[turn]
    return np.add.reduceat(terms, begins) if n else np.zeros(0, dtype=np.uint64)
