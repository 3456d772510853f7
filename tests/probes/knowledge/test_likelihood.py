"""Every token is judged once, with enough before it, and every byte is counted once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import ModelError
from probes.engines import Session
from probes.engines.kept import Kept
from probes.knowledge import likelihood
from probes.knowledge.likelihood import Passage, Reader, beginning, borders, tokenise
from tests.probes.knowledge.reading import Reading, byte_tokenizer, halves

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=12)


def by_last(n: int) -> Any:
    """A law that looks at the last n tokens before."""

    def law(before: Sequence[str], word: str) -> float:
        return 1 / (2 + sum(map(ord, "".join([*before[-n:], word]))) % 7)

    return law


def nats(law: Any, passages: Sequence[Passage], *, size: int = 511, overlap: int = 128) -> list[float]:
    return Reader(0, size, overlap).nats(Reading(law), passages).tolist()


@settings(max_examples=60, deadline=None)
@given(text=TEXTS)
def test_every_byte_belongs_to_one_token(text: str) -> None:
    [found] = tokenise(byte_tokenizer("a b", "Ã ©"), [text])
    assert len(found.edges) == len(found.whole) == len(found.ids) + 1
    assert (found.edges[0], found.edges[-1]) == (0, len(text.encode()))
    assert (np.diff(found.edges) >= 0).all()
    for i, at in enumerate(found.edges):
        text.encode()[:at].decode()  # a border never stands inside a character
        if found.whole[i]:
            assert [*tokenise(byte_tokenizer("a b", "Ã ©"), [text.encode()[:at].decode()])[0].ids] == [*found.ids[:i]]


def test_a_character_in_several_tokens_is_complete_with_the_last() -> None:
    [found] = tokenise(byte_tokenizer(), ["aé€"])
    assert found.edges.tolist() == [0, 1, 1, 3, 3, 3, 6]
    assert found.whole.tolist() == [True, True, False, True, False, False, True]
    assert [found.until(most) for most in range(8)] == [0, 1, 1, 3, 3, 3, 6, 6]


def test_a_token_of_half_a_character_and_the_next_is_complete_with_both() -> None:
    [found] = tokenise(byte_tokenizer("© x"), ["aéxb"])
    assert found.edges.tolist() == [0, 1, 1, 4, 5]
    assert found.whole.tolist() == [True, True, False, True, True]


def test_white_space_outside_the_offsets_belongs_to_the_token_behind_it() -> None:
    from tokenizers import processors

    trimming = byte_tokenizer("Ġ o")
    trimming.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    [found] = tokenise(trimming, ["g on "])
    byte_tokenizer.cache_clear()
    assert trimming.backend_tokenizer.encode("g on ").offsets == [(0, 1), (2, 3), (3, 4), (5, 5)]
    assert found.edges.tolist() == [0, 1, 3, 4, 5]
    assert found.whole.all()


def test_pieces_of_a_sentence_and_bytes_to_fall_back_on_are_told_apart() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b", "▁a"]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    raw = Tokenizer(models.BPE(vocab=vocab, merges=[("▁", "a")], byte_fallback=True, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    found = raw.encode("éa a b")
    edges, whole = borders("éa a b", found.offsets)
    assert found.tokens == ["▁", "<0xC3>", "<0xA9>", "a", "▁a", "▁", "b"]  # the first stands for nothing in the text
    assert edges.tolist() == [0, 0, 0, 2, 3, 5, 6, 7]
    assert whole.tolist() == [True, False, False, True, True, True, True, True]


def test_nothing_has_one_border() -> None:
    edges, whole = borders("", [])
    assert (edges.tolist(), whole.tolist()) == ([0], [True])


@settings(max_examples=60, deadline=None)
@given(n=st.integers(0, 40), first=st.integers(0, 40), size=st.integers(1, 12), overlap=st.integers(0, 6))
def test_every_token_is_judged_once_and_has_what_stands_before_it(n: int, first: int, size: int, overlap: int) -> None:
    overlap, first = min(overlap, size // 2), min(first, n)
    judged = []
    for shown, kept in Reader(99, size, overlap).windows(Passage(tuple(range(n)), first, n)):
        assert shown[0] == 99
        assert len(shown) <= size + 1
        for i in range(kept.start, kept.stop):
            token = shown[i + 1]
            judged.append(token)
            assert shown[1 : i + 1] == list(range(token - i, token))
            assert i >= min(token, overlap)
    assert judged == list(range(first, n))


def test_windows_that_overlap_enough_change_nothing() -> None:
    passage = Passage(tuple(2 + i * i % 50 for i in range(100)), 0, 100)
    for depth, same in ((3, True), (4, False)):
        [whole] = nats(by_last(depth), [passage])
        [windowed] = nats(by_last(depth), [passage], size=8, overlap=3)
        assert (windowed == pytest.approx(whole, abs=1e-9)) is same


def test_log_likelihood_adds_up_over_joined_texts(session: Session) -> None:
    ids = tuple(5 + i * i % 200 for i in range(60))
    parts = [Passage(ids, 0, 25), Passage(ids, 25, 60), Passage(ids, 0, 60)]
    one, two, both = nats(by_last(9), parts)
    assert both == pytest.approx(one + two, abs=1e-9)
    assert one == pytest.approx(nats(by_last(9), [Passage(ids[:25], 0, 25)])[0], abs=1e-9)
    one, two, both = Reader(0, 127, 32).nats(session, parts)
    assert both == pytest.approx(one + two, abs=1e-3)
    assert both < one < 0


def test_a_rerun_asks_only_for_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likelihood, "_SHARD_TOKENS", 50)
    passages = [Passage((2 + i,) * 20, 0, 20) for i in range(9)]
    expected = nats(halves, passages)
    broken, rest = Reading(halves, breaks_after=2), Reading(halves)
    with pytest.raises(KeyboardInterrupt):
        Reader(0, 31, 8).nats(Kept(broken, tmp_path), passages)
    assert Reader(0, 31, 8).nats(Kept(rest, tmp_path), passages).tolist() == expected
    assert 0 < len(broken.shown) < 9
    assert [ids[1] for ids in broken.shown + rest.shown] == [2 + i for i in range(9)]


def test_nothing_to_read_asks_nothing() -> None:
    session = Reading(halves)
    assert Reader(0, 31, 8).nats(session, []).tolist() == []
    assert session.shown == []


def test_a_text_that_is_impossible_is_told() -> None:
    with pytest.raises(ModelError, match="holds a text for impossible; expected finite"):
        nats(lambda _, word: float(word != "a"), [Passage((67,), 0, 1), Passage(tuple(range(2, 200)), 0, 198)])


@pytest.mark.parametrize(("bos", "eos", "first"), [(True, True, 0), (True, False, 0), (False, True, 1)])
def test_a_text_begins_with_the_first_token_that_there_is(bos: bool, eos: bool, first: int) -> None:
    assert beginning(byte_tokenizer(bos=bos, eos=eos))[0] == first


def test_a_tokenizer_without_a_token_to_begin_with_is_refused() -> None:
    with pytest.raises(ModelError, match=r"base_model\.path: the tokenizer has neither"):
        beginning(byte_tokenizer(bos=False, eos=False))
