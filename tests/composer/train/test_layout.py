"""Rows side by side or behind one another are the same rows: the same losses, the same gradients, every token once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from composer.encode import Encoding, load_tokenizer
from composer.errors import ModelError, SpecError
from composer.spec import rng
from composer.tables import TRACE, read
from composer.train import Train
from composer.train.batches import Row
from composer.train.layout import IGNORED, bins, check_isolation, micro, packed, padded, token_losses
from composer.types import ModelRef

Run = Callable[..., dict[str, Any]]

VOCAB = 89
WIDE = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 16,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": WIDE,
    "qwen3": {**WIDE, "head_dim": 8},
    "mistral": {**WIDE, "sliding_window": 4},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 16, "attn_pdrop": 0, "embd_pdrop": 0, "resid_pdrop": 0},
}


def network(kind: str, *, attention: str | None = None, vocab: int = VOCAB, **fields: Any) -> Any:
    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3}
    config = AutoConfig.for_model(kind, vocab_size=vocab, initializer_range=0.1, **special, **fields)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()


def drawn(lengths: list[int], domains: list[int] | None = None) -> list[Row]:
    """Rows of random tokens, every other one of them trained on and the last in any case."""
    dice, out = rng(3, "layout"), []
    for i, n in enumerate(lengths):
        trained = (*(bool(t) for t in dice.integers(2, size=n - 1)), True)
        ids = tuple(dice.integers(4, VOCAB, size=n).tolist())
        out.append(Row.of(str(i), domains[i] if domains else 0, Encoding(ids, trained)))
    return out


ROWS = drawn([9, 3, 12, 2, 5, 7, 2, 16], [0, 1, 0, 0, 1, 0, 1, 0])


def test_padded_labels_stand_where_tokens_are_trained_and_never_first() -> None:
    batch = padded([Row.of("a", 1, Encoding((7, 8, 9), (True, False, True))), Row.of("b", 0, Encoding((5, 6), (True, True)))])
    assert {name: tensor.tolist() for name, tensor in batch.items()} == {
        "input_ids": [[7, 8, 9], [5, 6, 0]],
        "attention_mask": [[1, 1, 1], [1, 1, 0]],
        "labels": [[IGNORED, IGNORED, 9], [IGNORED, 6, IGNORED]],
        "domain": [1, 0],
    }


def test_packed_positions_begin_anew_and_nothing_is_predicted_across_a_border() -> None:
    rows = [Row.of(str(n), d, Encoding(tuple(range(10, 10 + n)), (True,) * n)) for n, d in [(2, 4), (3, 0), (3, 4), (2, 0)]]
    batch = packed(rows, length=6)
    assert {name: tensor.tolist() for name, tensor in batch.items()} == {
        "input_ids": [[10, 11, 10, 11, 12], [10, 11, 12, 10, 11]],
        "position_ids": [[0, 1, 0, 1, 2], [0, 1, 2, 0, 1]],
        "labels": [[IGNORED, 11, IGNORED, 11, 12], [IGNORED, 11, 12, IGNORED, 11]],
        "domain": [4, 0],
    }
    assert packed(rows[:3], length=6)["position_ids"].tolist() == [[0, 1, 0, 1, 2], [0, 1, 2, 0, 0]]


def in_row_order(rows: list[Row], *, length: int) -> list[int]:
    """The filled bins of first fit, which takes the rows as they come."""
    filled: list[tuple[int, int]] = []
    for row in rows:
        n = row.n_tokens
        place = next((k for k, (domain, m) in enumerate(filled) if domain == row.domain and m + n <= length), None)
        if place is None:
            filled.append((row.domain, n))
        else:
            filled[place] = (row.domain, filled[place][1] + n)
    return [m for _, m in filled]


def sizes(members: list[Row]) -> list[int]:
    return sorted(row.n_tokens for row in members)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(2, 20), st.integers(0, 2)), min_size=1, max_size=40), st.integers(20, 50), st.randoms())
def test_bins_hold_every_row_once_and_no_two_could_be_one(drawn: list[tuple[int, int]], length: int, dice: Any) -> None:
    rows = [Row.of(str(i), domain, Encoding((7,) * n, (True,) * n)) for i, (n, domain) in enumerate(drawn)]
    found = bins(rows, length=length)
    assert sorted(int(row.sample_id) for members in found for row in members) == list(range(len(rows)))
    assert all(sum(sizes(members)) <= length for members in found)
    assert all(len({row.domain for row in members}) == 1 for members in found)
    firsts = [[int(row.sample_id) for row in members] for members in found]
    assert firsts == sorted(map(sorted, firsts))
    for domain in {row.domain for row in rows}:
        filled = sorted(sum(sizes(members)) for members in found if members[0].domain == domain)
        assert len(filled) < 2 or sum(filled[:2]) > length
    assert bins(rows, length=length) == found
    mixed = dice.sample(rows, len(rows))
    shapes = [sorted((members[0].domain, sizes(members)) for members in bins(some, length=length)) for some in (rows, mixed)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("longest", [120, 256])
def test_bins_are_no_more_than_first_fit_needs(longest: int) -> None:
    """Not a law of best fit decreasing, which some orders of some sizes beat; true of all that are drawn here."""
    dice = rng(longest, "bins")
    counts = []
    for _ in range(100):
        lengths = np.clip(dice.geometric(3 / longest, size=48), 2, longest).tolist()
        rows = [Row.of(str(i), i % 2, Encoding((7,) * n, (True,) * n)) for i, n in enumerate(lengths)]
        counts.append((len(bins(rows, length=256)), len(in_row_order(rows, length=256))))
    assert all(ours <= theirs for ours, theirs in counts)
    assert sum(ours for ours, _ in counts) < sum(theirs for _, theirs in counts)


@pytest.mark.parametrize("size", [1, 2, 3, 5, None])
@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_micro_batches_hold_the_batch_and_no_needless_padding(layout: str, size: int | None) -> None:
    batch = padded(ROWS) if layout == "padded" else packed(ROWS, length=16)
    parts = micro(batch, size=size)
    assert torch.equal(torch.cat([part["domain"] for part in parts]), batch["domain"])
    kept = [row[row > 0].tolist() for part in parts for row in part["input_ids"]]
    assert kept == [row[row > 0].tolist() for row in batch["input_ids"]]
    assert all((part["input_ids"] > 0).any(0).all() for part in parts)
    assert all(tensor.shape == part["input_ids"].shape for part in parts for name, tensor in part.items() if name != "domain")


@pytest.fixture(params=["sdpa", "eager"])
def attention(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def tied(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.mark.parametrize("kind", sorted(FAMILIES))
def test_a_packed_row_has_the_losses_of_the_row_alone(kind: str, attention: str, tied: bool) -> None:
    model = network(kind, attention=attention, tie_word_embeddings=tied, **FAMILIES[kind])
    for length in (16, 30, 60):  # more than the model can read in one row as well
        with torch.no_grad():
            together = token_losses(model, packed(ROWS, length=length))
            order = [row for members in bins(ROWS, length=length) for row in members]
            alone = torch.cat([token_losses(model, padded([row])) for row in order])
        torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", sorted(FAMILIES))
def test_packed_and_padded_rows_have_the_same_gradients(kind: str, attention: str, tied: bool) -> None:
    model = network(kind, attention=attention, tie_word_embeddings=tied, **FAMILIES[kind]).train()
    n = sum(row.n_loss_tokens for row in ROWS)
    found = []
    for parts in (
        micro(padded(ROWS), size=3),
        micro(packed(ROWS, length=30), size=2),
        micro(packed(ROWS, length=20), size=None),
    ):
        model.zero_grad()
        loss = torch.stack([token_losses(model, part).sum() / n for part in parts]).sum()
        loss.backward()
        found.append((loss.item(), {name: parameter.grad.clone() for name, parameter in model.named_parameters()}))
    (loss, gradients), *others = found
    for other, theirs in others:
        assert other == pytest.approx(loss, abs=1e-6)
        for name, gradient in gradients.items():
            assert float((theirs[name] - gradient).norm()) <= 1e-4 * float(gradient.norm()) + 1e-7, name


class Wrapped(torch.nn.Module):  # as DDP holds a model
    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = module

    def forward(self, **given: Any) -> Any:
        return self.module(**given)


SCALED = {"gemma2": {**WIDE, "head_dim": 8, "final_logit_softcapping": 0.5}, "granite": {**WIDE, "logits_scaling": 3.0}}


@pytest.mark.parametrize("layout", ["padded", "packed"])
@pytest.mark.parametrize(("kind", "fields"), [*FAMILIES.items(), *SCALED.items()])
def test_the_output_layer_sees_trained_places_alone_and_says_the_same(kind: str, fields: dict[str, Any], layout: str) -> None:
    model, seen = network(kind, **fields), []
    batch = padded(ROWS) if layout == "padded" else packed(ROWS, length=16)
    following = torch.nn.functional.pad(batch["labels"][:, 1:], (0, 1), value=IGNORED)
    given = {name: tensor for name, tensor in batch.items() if name not in ("labels", "domain")}
    logits = model(**given, use_cache=False).logits.flatten(0, 1)
    whole = torch.nn.functional.cross_entropy(logits, following.flatten(), reduction="none")
    model.get_output_embeddings().register_forward_hook(lambda *got: seen.append(got[-1].shape))
    for shown in (model, Wrapped(model)):
        torch.testing.assert_close(token_losses(shown, batch), whole[following.flatten() != IGNORED], rtol=0, atol=1e-6)
    assert seen == [(1, int((following != IGNORED).sum()), VOCAB)] * 2
    model._compiled_call_impl = model._call_impl  # as a compiled module has it, which keeps the hooks it was compiled with
    token_losses(model, batch)
    assert seen[-1][:2] == batch["input_ids"].shape


@pytest.mark.parametrize("kind", sorted(FAMILIES))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_models_that_keep_rows_apart_pass(kind: str, dtype: torch.dtype) -> None:
    check_isolation(network(kind, **FAMILIES[kind]).to(dtype))


def test_bins_go_through_the_test_as_they_go_through_training(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []

    def seen(model: Any, batch: Any) -> torch.Tensor:
        shapes.append(tuple(batch["input_ids"].shape))
        return token_losses(model, batch)

    monkeypatch.setattr("composer.train.layout.token_losses", seen)
    for micro_batch in (None, 1):
        check_isolation(network("llama", **WIDE), micro_batch=micro_batch)
    assert shapes == [(2, 9), (1, 5), (1, 4), (1, 3), (1, 9), (1, 3), (1, 5), (1, 4), (1, 3)]


@pytest.mark.parametrize(("kind", "fields"), [
    ("bloom", {"hidden_size": 32, "n_layer": 2, "n_head": 4}),
    ("opt", {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 48, "word_embed_proj_dim": 32}),
    ("mamba", {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}),
])  # fmt: skip
def test_models_that_let_rows_see_one_another_are_refused(kind: str, fields: dict[str, Any]) -> None:
    message = r"^train.packing: the model lets rows of a bin see one another; .*got \w+ForCausalLM.* leave train.packing out"
    with pytest.raises(ModelError, match=message):
        check_isolation(network(kind, **fields))


@pytest.mark.parametrize("fields", [{}, {"micro_batch": 1}, {"batches": "domain"}, {"adapter": "lora"}])
def test_packing_does_not_change_training(fields: dict[str, Any], run: Run, tmp_path: Path) -> None:
    traces, weights = [], []
    for packing in (None, 100):
        folder = tmp_path / str(packing)
        stats = run(folder, learning_rate=1e-3, packing=packing, **fields)
        assert (stats["steps"], stats["samples"]) == (8, 60)
        traces.append(read(folder / "trace.parquet", TRACE))
        [file] = folder.glob("*/*.safetensors")
        weights.append(load_file(file))
    assert traces[0].drop("loss_nats").equals(traces[1].drop("loss_nats"))
    np.testing.assert_allclose(traces[0]["loss_nats"], traces[1]["loss_nats"], rtol=0, atol=1e-4)
    assert max(float((tensor - weights[1][name]).abs().max()) for name, tensor in weights[0].items()) < 2e-4


def test_the_model_reads_fewer_tensor_rows(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shapes: list[tuple[int, ...]] = []

    def seen(model: Any, batch: Any) -> torch.Tensor:
        assert sorted(batch) == ["domain", "input_ids", "labels", "position_ids"]
        shapes.append(tuple(batch["input_ids"].shape))
        return token_losses(model, batch)

    monkeypatch.setattr("composer.train.trainer.token_losses", seen)
    run(tmp_path, packing=200, batch_size=60)
    assert len(shapes) == 1
    assert shapes[0][0] < 30
    assert shapes[0][1] <= 200


def test_a_bin_too_short_for_a_sample(run: Run, samples: Any, tmp_path: Path) -> None:
    longest = samples.sort("n_tokens", descending=True, maintain_order=True).row(0, named=True)
    n, name = longest["n_tokens"], longest["sample_id"]
    message = f"^train.packing: a sample is longer than a bin; expected at most {n - 1} tokens; got {n} in sample {name}; raise"
    with pytest.raises(SpecError, match=message):
        run(tmp_path, packing=n - 1)
    run(tmp_path, packing=n, learning_rate=0.0)


def test_a_model_that_cannot_be_packed_is_refused_at_once(run: Run, base: ModelRef, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(base.path)
    network("bloom", vocab=len(tokenizer), hidden_size=32, n_layer=1, n_head=4).save_pretrained(tmp_path / "bloom")
    tokenizer.save_pretrained(tmp_path / "bloom")
    with pytest.raises(ModelError, match=r"the model lets rows of a bin see one another; .*got BloomForCausalLM"):
        run(tmp_path / "out", model=ModelRef(path=str(tmp_path / "bloom")), packing=200)
    assert list((tmp_path / "out").iterdir()) == []


def test_packing_bears_no_identity() -> None:
    assert Train(packing=512).identity() == Train().identity()
    with pytest.raises(SpecError, match="packing: "):
        Train(packing=0)
