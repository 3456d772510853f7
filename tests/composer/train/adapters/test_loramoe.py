"""LoRAMoE in a model: where its experts go, what is balanced, how it is trained, stopped, loaded and refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from composer.encode import Encoding, encode
from composer.errors import ModelError, SpecError
from composer.fingerprint import sha256
from composer.progress import Silence, listener
from composer.tables import ROUTING, read
from composer.train import Moving, Train, train
from composer.train.adapters.lora import Lora
from composer.train.adapters.loramoe import LoraMoe
from composer.train.batches import Row
from composer.train.layout import packed, padded, token_losses
from composer.train.model import load, with_adapter
from composer.train.moe.layer import Experts
from composer.types import ModelRef

Run = Callable[..., dict[str, Any]]
DOMAINS = ("law", "code")
MOE = {"name": "loramoe", "n_experts": 4, "rank": 2, "knowledge": ["law"]}
FAST = {"adapter": MOE, "learning_rate": 1e-2}
WIDE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
FAMILIES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "llama": (WIDE, ("gate_proj", "up_proj", "down_proj")),
    "qwen2": (WIDE, ("gate_proj", "up_proj", "down_proj")),
    "mistral": (WIDE, ("gate_proj", "up_proj", "down_proj")),
    "gpt2": ({"n_embd": 32, "n_layer": 2, "n_head": 4}, ("c_fc", "c_proj")),
}


def network(kind: str, **fields: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return AutoModelForCausalLM.from_config(
            AutoConfig.for_model(kind, vocab_size=80, **{**FAMILIES[kind][0], **fields})
        ).eval()


def rows(*lengths: int) -> list[Row]:
    return [Row.of(str(i), i % 2, Encoding(tuple(range(3 + i, 3 + i + n)), (True,) * n)) for i, n in enumerate(lengths)]


def awake(model: Any) -> Any:
    """Let experts and routers be as in the middle of training."""
    with torch.random.fork_rng():
        torch.manual_seed(6)
        for module in model.modules():
            if isinstance(module, Experts):
                torch.nn.init.normal_(module.B, std=0.1)
                torch.nn.init.normal_(module.Wg)
    return model


def term(adapter: LoraMoe, model: Any, batch: dict[str, Tensor]) -> Tensor:
    adapter.before_forward(model, batch)
    token_losses(model, batch)
    found = adapter.extra_loss(model, batch)
    assert found is not None
    return found


def result(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): sha256(path) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("kind", sorted(FAMILIES))
def test_every_family_has_experts_on_its_feed_forward_maps_alone(kind: str) -> None:
    ids, before = torch.arange(5, 69).reshape(4, 16), network(kind)
    model = LoraMoe().attach(network(kind), previous=None, seed=1)
    maps = [name for name, module in model.named_modules() if isinstance(module, Experts)]
    assert [name.rsplit(".", 1)[-1] for name in maps] == list(FAMILIES[kind][1]) * 2
    assert all(".mlp." in name for name in maps)
    assert torch.equal(model(ids).logits, before(ids).logits)
    model.train()
    awake(model)(ids, labels=ids).loss.backward()
    moved = {name for name, value in model.named_parameters() if value.grad is not None}
    assert moved == set(LoraMoe().state(model)) == {f"{name}.{part}" for name in maps for part in ("A", "B", "Wg")}


@pytest.mark.parametrize("fields", [{}, {"form": "cv2"}, {"own_group": "more", "delta": 0.5}, {"beta": 3.0}])
def test_the_term_is_that_of_the_formula(fields: dict[str, Any]) -> None:
    adapter = LoraMoe(n_experts=4, rank=2, dropout=0, knowledge=("law",), **fields)
    model = awake(adapter.attach(network("llama"), previous=None, seed=1, domains=DOMAINS)).train()
    seen: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, Experts):
            module.register_forward_hook(lambda made, given, _, name=name: seen.update({name: given[0] @ made.Wg.t()}))
    lengths = (9, 5, 3)
    found = term(adapter, model, padded(rows(*lengths)))
    tilt = adapter.delta if adapter.own_group == "less" else -adapter.delta
    terms = []
    for scores in seen.values():
        z = []
        for m, n_tokens in enumerate(lengths):  # the first and the third row are of law
            for n in range(4):
                match = (m % 2 == 0) == (n < 2)
                load = sum(float(scores[m, t].softmax(-1)[n].detach()) for t in range(n_tokens)) / n_tokens
                z.append(load * (1 + tilt if match else 1 - tilt))
        mean = sum(z) / len(z)
        var = sum((each - mean) ** 2 for each in z) / len(z)
        terms.append(var / (mean if adapter.form == "var_over_mean" else mean**2))
    assert found.item() == pytest.approx(adapter.beta * sum(terms) / len(terms), rel=1e-4)
    assert len(terms) == 6


def test_the_term_sees_no_padding_in_either_layout() -> None:
    adapter = LoraMoe(dropout=0, knowledge=("law",))
    model = awake(adapter.attach(network("llama"), previous=None, seed=1, domains=DOMAINS)).train()
    of = rows(9, 5, 2)
    one, wide = padded(of), padded([*of, *rows(16)])
    wide = {name: value[:3] for name, value in wide.items()}
    in_bins = packed(of, length=9)
    assert in_bins["input_ids"].shape[0] == 3 or in_bins["domain"].tolist() == [0, 1, 0]
    values = [term(adapter, model, batch).item() for batch in (one, wide, in_bins)]
    assert values == pytest.approx([values[0]] * 3, rel=1e-5)


def test_the_term_moves_routers_and_what_lies_below_only() -> None:
    adapter = LoraMoe(dropout=0, knowledge=("law",))
    model = awake(adapter.attach(network("llama"), previous=None, seed=1, domains=DOMAINS)).train()
    term(adapter, model, padded(rows(9, 5))).backward()
    last = model.model.layers[1].mlp.down_proj
    assert float(last.Wg.grad.abs().max()) > 0
    assert not last.B.grad.any()
    assert not last.A.grad.any()
    assert all(value.grad is None for name, value in model.named_parameters() if name.endswith((".weight", ".bias")))


def test_outside_training_nothing_is_taken_and_nothing_is_left() -> None:
    adapter, batch = LoraMoe(knowledge=("law",)), padded(rows(9, 5))
    model = adapter.attach(network("llama"), previous=None, seed=1, domains=DOMAINS)
    off = LoraMoe(beta=0)
    for each, other in ((adapter, model), (off, off.attach(network("llama"), previous=None, seed=1, domains=DOMAINS).train())):
        each.before_forward(other, batch)
        token_losses(other, batch)
        assert each.extra_loss(other, batch) is None
        assert not other.experts.sink.taken
    term(adapter, model.train(), batch)
    assert (model.experts.batch, model.experts.sink.taken, model.experts.sink.open) == (None, {}, False)
    token_losses(model, batch)
    assert adapter.extra_loss(model, batch) is None
    alone = LoraMoe().attach(network("llama"), previous=None, seed=1).train()  # of domains that nobody named
    LoraMoe().before_forward(alone, batch)
    token_losses(alone, batch)
    assert LoraMoe().extra_loss(alone, batch) is None


@pytest.mark.parametrize(("own_group", "share"), [("less", 0.25), ("more", 0.75)])
def test_the_groups_come_apart_as_far_as_delta_says(own_group: Any, share: float) -> None:
    adapter = LoraMoe(n_experts=4, delta=0.5, beta=1, dropout=0, own_group=own_group, knowledge=("law",))
    model = adapter.attach(network("llama"), previous=None, seed=1, domains=DOMAINS).train()
    apart = [Row.of("", i, Encoding(tuple(range(5 + 20 * i, 15 + 20 * i)), (True,) * 10)) for i in (0, 1)]
    batch, optimizer = padded(apart), torch.optim.Adam(adapter.state(model).values(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        term(adapter, model, batch).backward()
        optimizer.step()
    adapter.before_forward(model, batch)
    token_losses(model, batch)
    load = model.experts.loads().detach()[[0, 1, 3, 4]]  # (maps, rows, experts); what down_proj gets is tiny here
    own = torch.stack([load[:, 0, :2].sum(-1), load[:, 1, 2:].sum(-1)])
    assert float((own - share).abs().max()) < 0.06


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


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, samples: pl.DataFrame, composed: Any, base: ModelRef) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    spec = Train(**FAST, batch_size=8, threads=1, device="cpu")
    train(composed(samples.head(32)), samples, model=base, start=None, spec=spec, max_length=64, seed=7, folder=folder)
    return folder


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


def test_who_cannot_use_it_says_so(trained: Path, base: ModelRef) -> None:
    from probes.engines.vllm_child.adapter import describe

    with pytest.raises(ModelError, match="vLLM knows no adapter of the method loramoe; use the engine hf"):
        describe(trained / "adapter")
    with pytest.raises(ModelError, match=r"no adapter in the folder.*of the method loramoe, which peft does not know"):
        with_adapter(load(base, device="cpu")[0], trained / "adapter")


def test_experts_that_were_cut_or_are_of_another_model_are_refused(trained: Path, base: ModelRef, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(trained / "adapter", tmp_path / "adapter")
    ref, weights = ModelRef(path=base.path, adapter=str(tmp_path / "adapter")), tmp_path / "adapter/experts.safetensors"
    with pytest.raises(ModelError, match=r"experts of another model.*got for model.layers.0.mlp.gate_proj"):
        LoraMoe(**MOE).apply(network("gpt2"), tmp_path / "adapter")
    with pytest.raises(
        ModelError, match=r"experts of another model; expected model.layers.0.mlp.down_proj.A of shape \(8, 48\)"
    ):
        LoraMoe(**MOE).apply(network("llama"), tmp_path / "adapter")
    weights.write_bytes(weights.read_bytes()[:-40])
    with pytest.raises(ModelError, match="experts that cannot be read"):
        load(ref, device="cpu")
    weights.unlink()
    with pytest.raises(ModelError, match=r"no experts in the folder; expected experts.safetensors.*loramoe leaves them"):
        load(ref, device="cpu")
    (tmp_path / "adapter/experts.json").write_text("{")
    weights.touch()
    with pytest.raises(ModelError, match="broken settings of experts"):
        load(ref, device="cpu")


@pytest.mark.parametrize(("fields", "told"), [
    ({"n_experts": 5}, "n_experts: no halves, of which one is each type; expected even; got 5; give expert_types"),
    ({"n_experts": 1}, "beta: one expert cannot be balanced; expected 0; got 0.1"),
    ({"n_experts": 2, "expert_types": ["task"]}, "expert_types: another number of types than of experts; expected 2; got 1"),
    ({"n_experts": 2, "expert_types": ["task"] * 2}, "expert_types: experts of one type; expected knowledge and task"),
    ({"delta": 1.0}, "delta: input should be less than 1"),
    ({"betta": 1.0}, "betta: unknown field of LoraMoe; did you mean 'beta'"),
])  # fmt: skip
def test_settings_that_mean_nothing_are_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(SpecError, match=told):
        LoraMoe(**fields)


def test_odd_numbers_and_one_expert_have_a_way_out() -> None:
    assert LoraMoe(n_experts=3, expert_types=("knowledge", "task", "task")).types == [True, False, False]
    assert LoraMoe(n_experts=1, beta=0).types == [False]
    assert LoraMoe(n_experts=6).types == [True] * 3 + [False] * 3


@pytest.mark.parametrize(("fields", "told"), [
    ({"knowledge": ("lwa",)}, "knowledge: no such domain; got lwa; did you mean 'law'"),
    ({"targets": ("mlp.up_prj",)}, "targets: no such module.*down_proj.*got mlp.up_prj.*targets may be auto"),
    ({"rank": 33}, "rank: a rank above that of model.layers.0.mlp.gate_proj; expected at most 32; got 33"),
])  # fmt: skip
def test_settings_that_do_not_fit_the_model_are_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(SpecError, match=told):
        LoraMoe(**fields).attach(network("llama"), previous=None, seed=1, domains=DOMAINS)


def test_a_family_that_is_not_known_needs_targets() -> None:
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    wide = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
    model = GPTNeoXForCausalLM(GPTNeoXConfig(vocab_size=80, **wide))
    with pytest.raises(SpecError, match=r"unknown family.*got gpt_neox; name the maps.*dense_4h_to_h, dense_h_to_4h"):
        LoraMoe().attach(model, previous=None, seed=1)
    named = LoraMoe(targets=("dense_h_to_4h",)).attach(model, previous=None, seed=1)
    assert named.experts.maps == ("gpt_neox.layers.0.mlp.dense_h_to_4h",)


@pytest.mark.parametrize(("fields", "field"), [
    ({"rank": 3}, "rank"), ({"n_experts": 2}, "n_experts"), ({"alpha": 8}, "alpha"), ({"dropout": 0.5}, "dropout"),
    ({"targets": ("up_proj",)}, "targets"), ({"expert_types": ("task", "knowledge") * 2}, "expert_types"),
])  # fmt: skip
def test_it_does_not_go_on_from_another(fields: dict[str, Any], field: str, trained: Path, base: ModelRef) -> None:
    with pytest.raises(SpecError, match=f"{field}: the previous adapter has another"):
        LoraMoe(**{**MOE, **fields}).attach(load(base, device="cpu")[0], previous=trained, seed=1)


def test_it_does_not_go_on_from_lora(base: ModelRef, tmp_path: Path) -> None:
    Lora().save(Lora().attach(load(base, device="cpu")[0], previous=None, seed=1), None, tmp_path)
    with pytest.raises(ModelError, match=r"no experts in the folder; expected experts\.json"):
        LoraMoe().attach(load(base, device="cpu")[0], previous=tmp_path, seed=1)


def test_a_training_on_some_of_the_domains_names_only_those() -> None:
    adapter = LoraMoe(knowledge=("law", "history"))
    adapter.check(("law", "history", "code"))
    assert adapter.among(("code", "law")).knowledge == ("law",)


def test_domains_of_one_type_are_said() -> None:
    class Ears(Silence):
        said: list[str] = []

        def say(self, line: str) -> None:
            self.said.append(line)

    token = listener.set(ears := Ears())
    try:
        for knowledge in ((), ("law",)):
            LoraMoe(knowledge=knowledge).attach(network("llama"), previous=None, seed=1, domains=DOMAINS)
    finally:
        listener.reset(token)
    assert [line[:34] for line in ears.said] == ["all domains are of one type: adapt"]
