"""A mixture is trained with the domain known, on prompts only, and what is left chooses by itself."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from composer.encode import load_tokenizer, prompt_ids
from composer.errors import ModelError, SpecError
from composer.fingerprint import sha256
from composer.train.adapters.lora import Lora
from composer.train.adapters.mola import Mola
from composer.train.model import load
from composer.types import ModelRef
from probes.engines.hf import Hf
from probes.retention import measure

Run = Callable[..., dict[str, Any]]
EXPERT = {"rank": 4, "alpha": 8, "targets": ("q_proj", "up_proj", "down_proj")}


class Stopped(BaseException):
    """Stands for a kill: nothing catches it."""


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """All that a mixture left, by file and name."""
    files = sorted((folder / "adapter").rglob("*.safetensors"))
    return {f"{file.parent.name}/{name}": value for file in files for name, value in load_file(file).items()}


def apart(one: Path, two: Path) -> float:
    first, second = weights(one), weights(two)
    assert first.keys() == second.keys()
    return max(float((value - second[name]).abs().max()) for name, value in first.items() if value.isfinite().all())


def result(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): sha256(path) for path in folder.rglob("*") if path.is_file()}


def opened(base: ModelRef, folder: Path) -> Any:
    return load(ModelRef(path=base.path, adapter=str(folder / "adapter")), device="cpu")[0]


def prompts(tokenizer: Any, samples: pl.DataFrame, domain: str) -> list[list[int]]:
    own = samples.filter(pl.col("domain") == domain)["messages"].to_list()
    return [prompt_ids(tokenizer, talk[:-1]) for talk in own]


def test_it_learns_to_tell_domains_apart_and_each_goes_on_learning(
    mix: Run, base: ModelRef, samples: pl.DataFrame, loras: Mapping[str, Path], tmp_path: Path
) -> None:
    stats = mix(tmp_path, learning_rate=3e-3, epochs=2)
    assert stats["loss_last"] < stats["loss_first"]
    network, tokenizer = opened(base, tmp_path), load_tokenizer(base.path)
    for i, domain in enumerate(("law", "code")):
        chosen = network.mixture.route(prompts(tokenizer, samples, domain)).experts
        assert chosen.unique().tolist() == [i]
        before = load_file(loras[f"experts/{domain}"] / "adapter/adapter_model.safetensors")
        after = load_file(tmp_path / f"adapter/experts/{domain}/adapter_model.safetensors")
        assert before.keys() == after.keys()
        assert all(not torch.equal(before[name], after[name]) for name in before)


def test_what_is_left_is_loras_of_peft_and_small_files(mix: Run, base: ModelRef, tmp_path: Path) -> None:
    mix(tmp_path)
    names = {path.relative_to(tmp_path / "adapter").as_posix() for path in (tmp_path / "adapter").rglob("*") if path.is_file()}
    lora = {"adapter_config.json", "adapter_model.safetensors"}
    assert names == {f"experts/{name}/{file}" for name in ("law", "code") for file in lora} | {
        "adapter.json", "mola.json", "router.safetensors",
    }  # fmt: skip
    ids = torch.tensor([[5, 9, 11, 20, 31]])
    network = opened(base, tmp_path)
    for i, name in enumerate(("law", "code")):
        network.mixture.take(torch.tensor([i]))
        with torch.no_grad():
            own = network(input_ids=ids).logits
            peft = PeftModel.from_pretrained(load(base, device="cpu")[0], tmp_path / "adapter/experts" / name)
            torch.testing.assert_close(own, peft(input_ids=ids).logits)


def test_the_loss_starts_at_the_logarithm_of_n(base: ModelRef, loras: Mapping[str, Path]) -> None:
    ids = torch.arange(5, 69).reshape(4, 16)
    batch = {"input_ids": ids, "labels": ids, "attention_mask": torch.ones_like(ids), "domain": torch.tensor([0, 1, 1, 0])}
    for eta, names in ((1.0, ("law", "code")), (0.5, ("law", "code", "third"))):
        adapter = Mola(expert=EXPERT, eta=eta)
        own = {f"experts/{name}": loras[f"experts/{name}"] for name in names}
        model = adapter.attach(load(base, device="cpu")[0], previous=None, seed=0, domains=names, given=own)
        adapter.before_forward(model, batch)
        model(input_ids=ids)
        assert adapter.extra_loss(model, batch).item() == pytest.approx(eta * math.log(len(names)))
    assert Mola(expert=EXPERT, eta=0).extra_loss(model, batch) is None


@pytest.mark.parametrize("decision", ["shared", "vote"])
def test_routers_do_not_shape_experts(mix: Run, decision: str, samples: pl.DataFrame, tmp_path: Path) -> None:
    for eta in (0.0, 1.0):
        mix(tmp_path / str(eta), adapter={"eta": eta, "decision": decision}, max_grad_norm=1e9, rows=samples.head(24))
    first, second = weights(tmp_path / "0.0"), weights(tmp_path / "1.0")
    for name, value in first.items():
        assert torch.equal(value, second[name]) == (name != "adapter/weight")
    assert float(first["adapter/weight"].abs().max()) == 0.0


def test_a_look_knows_the_domain(base: ModelRef, loras: Mapping[str, Path]) -> None:
    adapter = Mola(expert=EXPERT)
    own = {f"experts/{name}": loras[f"experts/{name}"] for name in ("code", "law")}
    model = adapter.attach(load(base, device="cpu")[0], previous=None, seed=0, domains=("law", "code"), given=own)
    ids = torch.arange(5, 37).reshape(2, 16)
    with torch.no_grad():
        adapter.before_forward(model, {"input_ids": ids, "labels": ids, "domain": torch.tensor([1, 0])})
        looked = model(input_ids=ids, use_cache=False).logits
        model.mixture.take(torch.tensor([0, 1]))  # the bank's order is that of what was given
        assert torch.equal(looked, model(input_ids=ids, use_cache=False).logits)
    assert model.mixture.prompts is None


def test_routers_alone_leave_experts_as_they_were(mix: Run, loras: Mapping[str, Path], tmp_path: Path) -> None:
    stats = mix(tmp_path, adapter={"train_experts": False}, weight_decay=0.1)
    assert stats["trainable_parameters"] == weights(tmp_path)["adapter/weight"].numel()
    for name in ("law", "code"):
        before = load_file(loras[f"experts/{name}"] / "adapter/adapter_model.safetensors")
        after = load_file(tmp_path / f"adapter/experts/{name}/adapter_model.safetensors")
        assert all(torch.equal(before[key], after[key]) for key in before)
    assert float(weights(tmp_path)["adapter/weight"].abs().max()) > 0


@pytest.mark.parametrize("fields", [
    {"micro_batch": 3}, {"packing": 64}, {"gradient_checkpointing": True}, {"attention": "eager"},
], ids=lambda fields: next(iter(fields)))  # fmt: skip
def test_how_a_pass_is_made_does_not_change_training(mix: Run, fields: Any, samples: pl.DataFrame, tmp_path: Path) -> None:
    given = {"rows": samples.head(24), "adapter": {"decision": "vote" if "packing" in fields else "shared"}}
    plain, other = (mix(tmp_path / name, **given, **own) for name, own in (("plain", {}), ("other", fields)))
    assert other["loss_last"] == pytest.approx(plain["loss_last"], abs=1e-5)
    assert apart(tmp_path / "plain", tmp_path / "other") < 1e-4


@pytest.mark.parametrize("batches", ["mixed", "domain"])
def test_a_stopped_training_ends_in_the_same_bits(
    mix: Run, batches: str, samples: pl.DataFrame, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    how = {
        "rows": samples.head(32),
        "checkpoint_every": 1,
        "adapter": {"expert": {**EXPERT, "dropout": 0.2}},
        "batches": batches,
        "weight_decay": 0.1,
    }
    whole, count = mix(tmp_path / "whole", **how), 0

    def after_step(*_: Any) -> None:
        nonlocal count
        count += 1
        if count == 2:  # with batches of one domain, an expert has not been taken yet
            raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(Mola, "after_step", after_step)
        with pytest.raises(Stopped):
            mix(tmp_path / "stopped", **how)
    assert mix(tmp_path / "stopped", **how) == whole
    assert result(tmp_path / "stopped") == result(tmp_path / "whole")


def test_a_new_domain_leaves_what_routers_said_of_the_others(
    mix: Run, base: ModelRef, loras: Mapping[str, Path], tmp_path: Path
) -> None:
    mix(tmp_path, learning_rate=3e-3)
    before, adapter = opened(base, tmp_path), Mola(expert=EXPERT)
    more = {"experts/third": loras["experts/third"]}
    after = adapter.attach(load(base, device="cpu")[0], previous=tmp_path, seed=0, domains=("law", "code", "third"), given=more)
    pooled = torch.randn(5, 64, generator=torch.Generator().manual_seed(1))
    for block in range(2):
        old, new = before.mixture.routers.logits(pooled, block), after.mixture.routers.logits(pooled, block)
        torch.testing.assert_close(old, new[:, :2])
        assert new[:, 2].tolist() == [0.0] * 5
    assert after.mixture.bank.names == ["law", "code", "third"]


def test_an_expert_without_rows_is_not_chosen(mix: Run, base: ModelRef, samples: pl.DataFrame, tmp_path: Path) -> None:
    mix(tmp_path, names=("law", "code", "third"))
    found = opened(base, tmp_path).mixture.route(prompts(load_tokenizer(base.path), samples, "law"))
    assert float(found.log_probs[..., 2].max()) == -math.inf


def test_one_domain_has_no_router(mix: Run, base: ModelRef, samples: pl.DataFrame, tmp_path: Path) -> None:
    law = samples.filter(pl.col("domain") == "law")
    mix(tmp_path / "one", names=("law",), rows=law)
    assert not (tmp_path / "one/adapter/router.safetensors").exists()
    assert opened(base, tmp_path / "one").mixture.routers is None
    mix(tmp_path / "two", names=("code",), start=tmp_path / "one")
    assert opened(base, tmp_path / "two").mixture.bank.names == ["law", "code"]


def test_the_engine_measures_and_writes_with_the_chosen_expert(
    mix: Run, base: ModelRef, samples: pl.DataFrame, tmp_path: Path
) -> None:
    mix(tmp_path, learning_rate=3e-3, epochs=2)
    tokenizer, ref = load_tokenizer(base.path), ModelRef(path=base.path, adapter=str(tmp_path / "adapter"))
    asked = [prompts(tokenizer, samples, domain)[i] for i in range(3) for domain in ("law", "code")]
    with Hf().open(ref) as session:
        told, written = (
            measure(session, samples, max_length=64),
            session.complete(asked, max_new_tokens=8, temperature=0, seed=0),
        )
        firsts = session.choose(asked, [7, 8, 9])
    for domain in ("law", "code"):
        own = samples.filter(pl.col("domain") == domain)
        with Hf().open(ModelRef(path=base.path, adapter=str(tmp_path / "adapter/experts" / domain))) as session:
            alone = measure(session, own, max_length=64)
            texts = session.complete(asked, max_new_tokens=8, temperature=0, seed=0)
            choices = session.choose(asked, [7, 8, 9])
        both = alone.join(told, on="sample_id")
        assert both["loss_nats"].to_list() == pytest.approx(both["loss_nats_right"].to_list(), rel=1e-4)
        rows = range(0 if domain == "law" else 1, 6, 2)
        assert [texts[i].ids for i in rows] == [written[i].ids for i in rows]
        for i in rows:
            torch.testing.assert_close(torch.tensor(choices[i]), torch.tensor(firsts[i]), rtol=1e-4, atol=1e-4)


def test_a_choice_does_not_hang_on_the_answer_that_is_scored(
    mix: Run, base: ModelRef, samples: pl.DataFrame, tmp_path: Path
) -> None:
    mix(tmp_path, learning_rate=3e-3, epochs=2)
    tokenizer = load_tokenizer(base.path)
    law, code = (prompts(tokenizer, samples, domain)[0] for domain in ("law", "code"))
    with Hf().open(ModelRef(path=base.path, adapter=str(tmp_path / "adapter"))) as session:
        mixture = session._mixture
        session.score([law + 3 * code, code + 3 * law], heads=[len(law), len(code)])
        assert mixture.routing.experts[0].tolist() == [0, 1]
        session.score([law + 3 * code])
        assert mixture.route([law + 3 * code]).experts[0].tolist() == [1]  # what it would have been, had it read on


def test_a_domain_without_an_expert_is_refused(mix: Run, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"experts: a domain without an expert; got code.*give it as experts/<domain>"):
        mix(tmp_path, names=("law",))


@pytest.mark.parametrize(("fields", "what"), [
    ({"pool": "last"}, "pool: the first router would read the last token's embedding alone"),
    ({"eta": 0, "train_experts": False}, "eta: nothing would be trained"),
])  # fmt: skip
def test_settings_that_make_no_sense_are_refused(fields: Any, what: str) -> None:
    with pytest.raises(SpecError, match=what):
        Mola(**fields)


def test_experts_of_other_settings_are_refused(mix: Run, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"expert\.rank: experts of other settings; expected 8; got 4 in law"):
        mix(tmp_path, adapter={"expert": {**EXPERT, "rank": 8}})


def test_several_processes_are_refused(base: ModelRef, loras: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(SpecError, match=r"train\.processes: mola trains in one process"):
        Mola(expert=EXPERT).attach(load(base, device="cpu")[0], previous=None, seed=0, given=loras)


def test_a_folder_that_was_cut_short_is_refused(mix: Run, base: ModelRef, gpt2: ModelRef, tmp_path: Path) -> None:
    mix(tmp_path)
    with pytest.raises(ModelError, match="an adapter of another base"):
        opened(gpt2, tmp_path)
    (tmp_path / "adapter/router.safetensors").write_bytes(b"\0" * 9)
    with pytest.raises(ModelError, match=r"no mixture of LoRAs: .*train it again"):
        opened(base, tmp_path)
    (tmp_path / "adapter/mola.json").unlink()
    with pytest.raises(ModelError, match="no mixture of LoRAs"):
        opened(base, tmp_path)


def test_a_missing_expert_is_named(mix: Run, base: ModelRef, tmp_path: Path) -> None:
    mix(tmp_path)
    shutil.rmtree(tmp_path / "adapter/experts/code")
    with pytest.raises(ModelError, match="no LoRA of the expert code"):
        opened(base, tmp_path)


def test_the_description_holds_all_settings(mix: Run, tmp_path: Path) -> None:
    mix(tmp_path, adapter={"threshold": 0.3, "decision": "vote"})
    told = json.loads((tmp_path / "adapter/adapter.json").read_text())["adapter"]
    assert Mola(**told) == Mola(expert=Lora(**EXPERT), threshold=0.3, decision="vote")
