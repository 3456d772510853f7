"""LoRAMoE trained: in every layout, stopped, looked at, loaded and used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from composer.encode import encode
from composer.fingerprint import sha256
from composer.tables import ROUTING, read
from composer.train import Moving, Train, train
from composer.train.adapters.loramoe import LoraMoe
from composer.train.model import load
from composer.types import ModelRef

Run = Callable[..., dict[str, Any]]
MOE = {"name": "loramoe", "n_experts": 4, "rank": 2, "knowledge": ["law"]}
FAST = {"adapter": MOE, "learning_rate": 1e-2}


def result(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): sha256(path) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("fields", [
    {"gradient_checkpointing": True}, {"gradient_checkpointing": True, "packing": 64, "micro_batch": 1},
    {"precision": "bfloat16"},
], ids=["checkpointing", "bins", "bfloat16"])  # fmt: skip
def test_how_a_pass_is_made_does_not_change_training(fields: Any, run: Run, samples: pl.DataFrame, tmp_path: Path) -> None:
    given = {**FAST, "rows": samples.head(32)} | {name: fields[name] for name in ("packing", "micro_batch") if name in fields}
    plain, other = (run(tmp_path / name, **{**given, **own}) for name, own in (("plain", {}), ("other", fields)))
    assert plain["loss_last"] < plain["loss_first"] - 0.2
    assert other["loss_last"] == pytest.approx(plain["loss_last"], abs=0.02 if "precision" in fields else 1e-5)


def test_without_the_term_micro_batches_and_bins_do_not_change_training(
    run: Run, samples: pl.DataFrame, tmp_path: Path
) -> None:
    given = {"adapter": {**MOE, "beta": 0, "dropout": 0}, "learning_rate": 1e-2, "rows": samples.head(24)}
    whole = run(tmp_path / "whole", **given)
    for i, fields in enumerate(({"micro_batch": 3}, {"packing": 64})):
        assert run(tmp_path / str(i), **given, **fields)["loss_last"] == pytest.approx(whole["loss_last"], abs=1e-4)


class Stopped(BaseException):
    """Stands for a kill."""


def test_a_stopped_training_ends_in_the_same_bits(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fields = {"adapter": {**MOE, "dropout": 0.2}, "checkpoint_every": 2, "micro_batch": 3, "gradient_checkpointing": True}
    whole, count = run(tmp_path / "whole", **fields), 0

    def after_step(*_: Any) -> None:
        nonlocal count
        count += 1
        if count == 6:
            raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(LoraMoe, "after_step", after_step)
        with pytest.raises(Stopped):
            run(tmp_path / "stopped", **fields)
    assert run(tmp_path / "stopped", **fields) == whole
    assert result(tmp_path / "stopped") == result(tmp_path / "whole")


def test_a_law_looks_without_the_term(samples: pl.DataFrame, composed: Any, base: ModelRef, tmp_path: Path) -> None:
    """Looks change nothing: weights that never move give the training without a law's looks in between."""
    law = {"name": "levels", "levels": [(0, {"law": 0.5, "code": 0.5})]}
    moving = Moving(
        reserve=composed(samples.tail(20)), held_out=samples.tail(8), weights={"law": 0.5, "code": 0.5}, unit="samples"
    )
    left = []
    for every in (2, 100):
        spec = Train(**FAST, law={**law, "every": every}, batch_size=8, threads=1, device="cpu")
        folder = tmp_path / str(every)
        given = {"model": base, "start": None, "spec": spec, "max_length": 64, "seed": 7, "moving": moving}
        train(composed(samples.head(32)), samples, folder=folder, **given)
        left.append(result(folder)["adapter/experts.safetensors"])
    assert left[0] == left[1]


def test_routing_is_kept_by_map_domain_and_expert(trained: Path, samples: pl.DataFrame) -> None:
    """A model whose weights do not move gives the shares that its routers give, whatever the layout."""
    found = read(trained / "routing.parquet", ROUTING)
    assert found.select("map", "domain", "expert").is_unique().all()
    assert found.height == 6 * 2 * 4
    sums = found.group_by("map", "domain").agg(pl.col("share").sum(), pl.col("n_tokens").first())
    assert sums["share"].to_list() == pytest.approx([1] * 12)
    n_tokens = dict(samples.head(32).group_by("domain").agg(pl.col("n_tokens").sum()).iter_rows())
    assert {domain: n for _, domain, _, n in sums.iter_rows()} == n_tokens
    assert (
        found.group_by("expert").agg(pl.col("type").first()).sort("expert")["type"].to_list()
        == ["knowledge"] * 2 + ["task"] * 2
    )


def test_routing_is_that_of_the_routers(run: Run, samples: pl.DataFrame, base: ModelRef, tmp_path: Path) -> None:
    """Of a training that moves nothing, in whatever layout, and with the term or without."""
    given, tables = {"learning_rate": 0.0, "rows": samples.head(16), "batch_size": 5}, []
    for i, fields in enumerate(({}, {"packing": 64, "micro_batch": 1}, {"adapter": {**MOE, "beta": 0}, "micro_batch": 2})):
        run(tmp_path / str(i), **{**given, "adapter": MOE, **fields})
        tables.append(read(tmp_path / str(i) / "routing.parquet", ROUTING))
    for table in tables[1:]:
        torch.testing.assert_close(table["share"].to_torch(), tables[0]["share"].to_torch(), atol=1e-6, rtol=0)
    model, tokenizer = load(ModelRef(path=base.path, adapter=str(tmp_path / "0/adapter")), device="cpu")
    model.experts.sink.emptied(anew=True)
    law = encode(tokenizer, samples.head(16).filter(domain="law")["messages"].to_list(), max_length=64)
    path, sums = "model.layers.1.mlp.up_proj", torch.zeros(4)
    for row in law:
        model(torch.tensor([row.ids]))  # type: ignore[union-attr]
        sums += model.experts.sink.taken[path].detach().sum((0, 1))
    own = tables[0].filter(map=path, domain="law")
    torch.testing.assert_close(own["share"].to_torch().float(), sums / sums.sum())


def test_the_folder_holds_weights_and_settings(trained: Path) -> None:
    assert sorted(path.name for path in (trained / "adapter").iterdir()) == [
        "adapter.json",
        "experts.json",
        "experts.safetensors",
    ]
    told = json.loads((trained / "adapter/experts.json").read_text())
    assert told["expert_types"] == ["knowledge", "knowledge", "task", "task"]
    assert told["maps"][0] == "model.layers.0.mlp.gate_proj"
    assert len(told["maps"]) == 6


def test_what_was_trained_generates_with_a_cache_and_goes_on(trained: Path, base: ModelRef, run: Run, tmp_path: Path) -> None:
    model, _ = load(ModelRef(path=base.path, adapter=str(trained / "adapter")), device="cpu")
    ids, plain = torch.arange(5, 13)[None], load(base, device="cpu")[0]
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not torch.allclose(model(ids).logits, plain(ids).logits, atol=1e-2)
    made = [model.generate(ids, max_new_tokens=6, do_sample=False, use_cache=cached).tolist() for cached in (True, False)]
    assert made[0] == made[1]
    still = run(tmp_path, start=trained, adapter=MOE, learning_rate=0.0)
    assert result(tmp_path)["adapter/experts.safetensors"] == result(trained)["adapter/experts.safetensors"]
    assert still["loss_first"] < run(tmp_path / "base", adapter=MOE, learning_rate=0.0)["loss_first"]


def test_the_engine_of_transformers_completes_and_scores_with_it(trained: Path, base: ModelRef) -> None:
    from probes.engines.hf import Hf

    ref = ModelRef(path=base.path, adapter=str(trained / "adapter"))
    with Hf(device="cpu").open(ref) as session:
        [made] = session.complete([list(range(5, 13))], max_new_tokens=4, temperature=0, seed=1)
        [scores] = session.score([list(range(5, 13))])
    logits = load(ref, device="cpu")[0](torch.arange(5, 13)[None]).logits[0].detach()
    assert made.ids[0] == int(logits[-1].argmax())
    expected = logits.log_softmax(-1)[:-1].gather(1, torch.arange(6, 13)[:, None])[:, 0]
    assert scores.logprob.tolist() == pytest.approx(expected.tolist(), abs=1e-4)


def test_a_base_in_bfloat16_takes_experts_in_float32(trained: Path, base: ModelRef) -> None:
    model = load(base, device="cpu")[0].bfloat16()
    put = LoraMoe(**MOE).apply(model, trained / "adapter")
    assert put(torch.arange(5, 13)[None]).logits.dtype == torch.bfloat16
    assert put.model.layers[0].mlp.up_proj.A.dtype == torch.float32
