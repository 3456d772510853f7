"""Keys: the same by column as one by one, for every character there is; equal for copies, and for nothing else."""

from __future__ import annotations

import unicodedata

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer.ingest.keys import ROLES, flat_keys, key, normal
from composer.ingest.texts import Texts

PIECES = (
    "",
    " ",
    "\n",
    "\t ",
    "\u00a0",
    "\u2003",
    "a",
    "e\u0301",
    "\u00e9",
    "\u201cx\u201d",
    "\u2014",
    "\u2126",
    "\u65e5",
    "\u306e",
    "\U0001f600",
)


def by_column(talks: list[list[tuple[str, str]]]) -> tuple[list[bytes], np.ndarray]:
    texts = Texts.of(pl.Series([text for talk in talks for _, text in talk], dtype=pl.String))
    roles = np.array([ROLES.index(role) for talk in talks for role, _ in talk])
    return flat_keys(texts, roles, np.array([len(talk) for talk in talks]))


def one_by_one(talks: list[list[tuple[str, str]]]) -> list[bytes]:
    return [key([{"role": role, "content": text} for role, text in talk]) for talk in talks]


@pytest.mark.parametrize(
    "frame", ["{}", "e{}", "{0}{0}", "\u1100\u1161{}", "\uac00{}", "\u304b{}", "{}\u0301 word", " a {} b\n", "\u00e9{}"]
)
def test_every_character_of_the_basic_plane_and_every_emoji_has_one_key(frame: str) -> None:
    points = [chr(c) for c in (*range(0xD800), *range(0xE000, 0x10000), *range(0x1F000, 0x20000))]
    talks = [[("user", frame.format(c))] for c in points]
    found, clean = by_column(talks)
    expected = one_by_one(talks)
    wrong = [hex(ord(c)) for c, a, b, good in zip(points, found, expected, clean, strict=True) if good and a != b]
    assert not wrong, wrong[:5]
    assert {c for c, good in zip(points, clean, strict=True) if not good} <= {
        c for c in points if unicodedata.category(c) == "Cc"
    }


@given(
    st.lists(
        st.lists(
            st.tuples(st.sampled_from(ROLES), st.lists(st.sampled_from(PIECES), max_size=6).map("".join)),
            min_size=1,
            max_size=4,
        ),
        min_size=1,
        max_size=6,
    )
)
def test_a_conversation_has_one_key(talks: list[list[tuple[str, str]]]) -> None:
    assert by_column(talks)[0] == one_by_one(talks)


@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join), st.lists(st.sampled_from(PIECES), max_size=8).map("".join))
def test_texts_share_a_key_exactly_where_they_share_the_normal_form(one: str, other: str) -> None:
    keys = one_by_one([[("user", one)], [("user", other)]])
    assert (keys[0] == keys[1]) == (normal(one) == normal(other))
