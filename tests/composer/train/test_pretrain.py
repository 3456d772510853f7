"""A base model is made of the mixture it says, and its rows begin where a probe asks."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from composer.conversation import Whole
from composer.encode import Encoding, encode, load_tokenizer, prompt_ids
from composer.errors import SourceError, SpecError
from composer.fingerprint import sha256
from composer.render import render
from composer.template import ChatTemplate
from composer.train.pretrain import Base, _draw, _rate, _rows, pretrain
from composer.types import ModelRef

Documents = dict[str, list[str]]
Tiny = Callable[..., Base]


def test_shares_are_exact_and_repeats_are_counted(documents: Documents, tiny: Tiny, tmp_path: Path) -> None:
    stats = pretrain(documents, spec=tiny(documents=50), seed=3, folder=tmp_path)
    law, code = stats["domains"]["law"], stats["domains"]["code"]
    assert (law["n_documents"], code["n_documents"]) == (12, 38) or (law["n_documents"], code["n_documents"]) == (13, 37)
    assert (law["repeats"], code["repeats"]) == (0, code["n_documents"] - 30)
    assert law["document_share"] + code["document_share"] == pytest.approx(1)
    assert law["token_share"] + code["token_share"] == pytest.approx(1)
    assert stats["n_tokens"] == law["n_tokens"] + code["n_tokens"]
    assert stats["steps"] == math.ceil(math.ceil((stats["n_tokens"] - 1) / 64) / 16)
    assert json.loads((tmp_path / "base.json").read_text(encoding="utf-8"))["stats"] == stats
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base.json", "model"]


def test_a_budget_of_tokens_is_met(documents: Documents, tiny: Tiny, tmp_path: Path) -> None:
    stats = pretrain(documents, spec=tiny(tokens=5000), seed=3, folder=tmp_path)
    assert stats["n_tokens"] == pytest.approx(5000, rel=0.05)
    assert stats["domains"]["code"]["document_share"] == pytest.approx(0.75, abs=0.01)


def test_it_learns(documents: Documents, tiny: Tiny, tmp_path: Path) -> None:
    stats = pretrain(documents, spec=tiny(tokens=10_000, batch_size=4), seed=3, folder=tmp_path)
    assert stats["loss_last"] < 0.5 * math.log(stats["vocab"])


def test_two_runs_are_the_same_to_the_bit(documents: Documents, tiny: Tiny, tmp_path: Path) -> None:
    state = torch.get_rng_state()
    for i in range(2):
        torch.rand(i)
        pretrain(documents, spec=tiny(documents=40), seed=3, folder=tmp_path / str(i))
    one, two = ({p.name: sha256(p) for p in (tmp_path / str(i)).rglob("*") if p.is_file()} for i in range(2))
    assert one == two
    torch.set_rng_state(state)
    pretrain(documents, spec=tiny(documents=40), seed=4, folder=tmp_path / "2")
    assert torch.equal(state, torch.get_rng_state())
    assert sha256(tmp_path / "2/model/model.safetensors") != one["model.safetensors"]


def test_the_folder_is_a_plain_model(base: ModelRef) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base.path), load_tokenizer(base.path)
    config = model.config
    assert (config.model_type, config.head_dim, config.max_position_embeddings) == ("llama", 32, 512)
    assert config.vocab_size == len(tokenizer) <= 400
    special = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    assert special == (0, 1, 2) == (config.bos_token_id, config.eos_token_id, config.pad_token_id)
    assert model.generation_config.eos_token_id == 1
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert tokenizer("a b")["input_ids"] == tokenizer("a b", add_special_tokens=False)["input_ids"]


def test_an_answer_is_trained_on_to_its_end(base: ModelRef) -> None:
    tokenizer = load_tokenizer(base.path)
    talk = [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"},
        {"role": "user", "content": "and 3+3?"}, {"role": "assistant", "content": "6 – naïve"},
    ]  # fmt: skip
    [encoding, document] = encode(tokenizer, [talk, [{"role": "assistant", "content": "def f(x):"}]], max_length=500)
    assert isinstance(encoding, Encoding)
    answers = [token for token, on in zip(encoding.ids, encoding.trained, strict=True) if on]
    assert tokenizer.decode(answers) == "4</s>6 – naïve</s>"
    assert list(encoding.ids[: len(prompt_ids(tokenizer, talk[:-1]))]) == prompt_ids(tokenizer, talk[:-1])
    assert isinstance(document, Encoding)
    assert tokenizer.decode(document.ids) == "<s>def f(x):</s>"
    assert document.trained == (False, *[True] * (len(document.ids) - 1))


TURNS = st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), st.text(max_size=12)), min_size=1, max_size=5)


@settings(max_examples=20, deadline=None)
@given(talk=TURNS)
def test_the_template_never_rewrites_history(talk: list[tuple[str, str]], base: ModelRef) -> None:
    messages = [{"role": role, "content": text} for role, text in [("user", ""), *talk]]
    found = render(ChatTemplate(load_tokenizer(base.path)), Whole(messages))
    assert [found.text[a:b] for a, b in found.spans] == [f"{text}</s>" for role, text in talk if role == "assistant"]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(2, 30), min_size=1, max_size=40), st.integers(2, 17))
def test_every_row_begins_with_a_document_and_is_a_piece_of_the_stream(lengths: list[int], context: int) -> None:
    stream, begins = np.arange(5, 5 + sum(lengths)), np.cumsum(lengths) - lengths
    inputs, targets = _rows(stream, np.array(lengths), context=context)
    assert inputs.shape == targets.shape == (len(inputs), context)
    after = 0
    for row, wanted in zip(inputs.numpy(), targets.numpy(), strict=True):
        real = wanted >= 0
        start = int(row[0]) - 5
        assert start == begins[np.searchsorted(begins, after)]  # the first document that begins after the row before
        assert row[real].tolist() == stream[start : start + real.sum()].tolist()
        assert wanted[real].tolist() == stream[start + 1 : start + 1 + real.sum()].tolist()
        assert real.all() or start + context >= len(stream)
        after = start + context
    assert after > begins[-1]


def test_the_document_that_begins_a_row_does_not_depend_on_its_length() -> None:
    dice = np.random.default_rng(0)
    lengths = dice.choice([5, 25], size=40_000)
    inputs, _ = _rows(np.repeat(lengths, lengths), lengths, context=64)
    assert float((inputs[:, 0] == 25).float().mean()) == pytest.approx(0.5, abs=0.02)


def test_a_smaller_draw_is_the_beginning_of_a_larger_one(documents: Documents, tiny: Tiny) -> None:
    spec = tiny(documents=1)
    small, large = (_draw(documents, spec, n=n, seed=5) for n in (40, 160))
    for k, name in enumerate(spec.weights):
        one, two = ([t for t, d in zip(draw.texts, draw.domain, strict=True) if d == k] for draw in (small, large))
        assert one == two[: len(one)]
        assert sorted(two[:30]) == sorted(documents[name])  # everything once before anything twice
        assert len(two) == large.counts[k]


def test_weights_are_parts_and_need_not_sum_to_one(documents: Documents, tiny: Tiny) -> None:
    one, two = (
        _draw(documents, tiny(documents=1, weights=w), n=40, seed=5)
        for w in ({"law": 1, "code": 3}, {"law": 0.25, "code": 0.75})
    )
    assert one.texts == two.texts
    assert one.counts.tolist() == [10, 30]


def test_the_number_of_documents_does_not_depend_on_the_scale_of_the_weights(
    documents: Documents, tiny: Tiny, tmp_path: Path
) -> None:
    sizes = []
    for scale in (1.0, 4.0):
        spec = tiny(documents=None, tokens=1500, weights={"law": 0.25 * scale, "code": 0.75 * scale})
        sizes.append(pretrain(documents, spec=spec, seed=2, folder=tmp_path / str(scale))["n_documents"])
    assert sizes[0] == sizes[1]


def test_the_learning_rate_rises_and_falls() -> None:
    rates = [_rate(step, steps=200) for step in range(200)]
    assert rates[0] == pytest.approx(1 / 6)
    assert max(rates) == 1 == rates[6]
    assert rates[-1] < 1e-3
    assert [_rate(0, steps=1)] == [1.0]


@pytest.mark.parametrize(("fields", "message"), [
    ({"heads": 4}, r"heads: no engine runs heads of this size; expected hidden / heads in 32, 64.*got 64/4"),
    ({"heads": 3}, "no engine runs heads of this size"),
    ({"tokens": 5}, "tokens: how much to read is said once"),
    ({"documents": None}, "tokens: how much to read is said once"),
    ({"weights": {"law": 0.0}}, "weights: weights must not be negative, and not all zero"),
    ({"weights": {"law": 1.5, "code": -0.5}}, "weights: weights must not be negative, and not all zero"),
    ({"weights": {}}, "weights: weights must not be negative, and not all zero"),
    ({"vocab": 100}, "vocab: "),
])  # fmt: skip
def test_bad_settings(fields: dict[str, Any], message: str, tiny: Tiny) -> None:
    with pytest.raises(SpecError, match=message):
        tiny(**{"documents": 10, **fields})


def test_domains_without_documents(documents: Documents, tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"weights.law: no such domain; did you mean 'laws'"):
        pretrain({"laws": ["x"], "code": ["y"]}, spec=tiny(documents=4), seed=0, folder=tmp_path)
    with pytest.raises(SourceError, match=r"weights.law: a domain with a share has no documents"):
        pretrain({**documents, "law": []}, spec=tiny(documents=4), seed=0, folder=tmp_path)


def test_a_domain_without_a_share_is_not_read(documents: Documents, tiny: Tiny, tmp_path: Path) -> None:
    spec = tiny(documents=10, weights={"law": 0.0, "code": 1.0})
    stats = pretrain({**documents, "law": []}, spec=spec, seed=0, folder=tmp_path)
    assert (stats["domains"]["law"]["n_documents"], stats["domains"]["code"]["n_documents"]) == (0, 10)


def test_threads_bear_no_identity(tiny: Tiny) -> None:
    assert tiny(documents=1, threads=2).identity() == tiny(documents=1).identity()


def test_real_text(root: Path, tiny: Tiny, tmp_path: Path) -> None:
    folder = root / "../shared/data/text"
    if not folder.is_dir():
        pytest.skip("shared/data is not here")
    texts = {name: pl.read_parquet(folder / f"{name}.parquet")["text"].head(30).to_list() for name in ("law", "code")}
    stats = pretrain(texts, spec=tiny(tokens=15_000), seed=1, folder=tmp_path)
    assert stats["n_tokens"] == pytest.approx(15_000, rel=0.5)  # a handful of long documents
    assert stats["loss_last"] < math.log(stats["vocab"])
