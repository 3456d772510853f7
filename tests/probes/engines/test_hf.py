"""The engine samples and scores as the model alone would, and refuses what it cannot use."""

from __future__ import annotations

import gc
import shutil
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from composer.errors import FaultError, ModelError, SpecError
from composer.types import ModelRef
from probes.engines.causal import CausalSession
from probes.engines.hf import Hf


@pytest.fixture(scope="module")
def prompts() -> list[list[int]]:
    random = np.random.default_rng(2)
    return [random.integers(5, 300, size=n).tolist() for n in (1, 9, 4, 4, 1, 17, 2, 6, 1, 3)]


def copy_of(model: Path, folder: Path, name: str, *, write: str | None) -> str:
    shutil.copytree(model, folder / "model")
    file = folder / "model" / name
    file.unlink() if write is None else file.write_text(write)
    return str(folder / "model")


def lora(model: Path, folder: Path) -> Path:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(3)
        config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
        get_peft_model(AutoModelForCausalLM.from_pretrained(model), config).save_pretrained(folder)
    return folder


def test_batches_do_not_change_the_texts(tiny_model: Path, prompts: list[list[int]]) -> None:
    made = []
    for batch_tokens in (1, 60, 8192):
        with Hf(batch_tokens=batch_tokens, dtype="float64").open(ModelRef(path=str(tiny_model))) as session:
            made.append(session.complete(prompts, max_new_tokens=20, seed=5))
    assert made[0] == made[1] == made[2]


def test_greedy_agrees_with_generate_for_prompts_of_any_length(session: CausalSession, prompts: list[list[int]]) -> None:
    made = session.complete(prompts, max_new_tokens=15, temperature=0, seed=0)
    for prompt, completion in zip(prompts, made, strict=True):
        ids = torch.tensor([prompt])
        alone = session._model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=15)
        assert completion.ids == tuple(alone[0, len(prompt) :].tolist())


def test_a_batch_walks_together(session: CausalSession) -> None:
    calls: list[int] = []
    hook = session._model.register_forward_hook(lambda *_: calls.append(1))
    made = session.complete([[0]] * 60, max_new_tokens=16, seed=1)
    hook.remove()
    assert len(made) == 60
    assert len(calls) <= 16  # one by one it would be up to 960


def test_scores_equal_an_unbatched_forward(tiny_model: Path, prompts: list[list[int]]) -> None:
    with Hf(batch_tokens=40).open(ModelRef(path=str(tiny_model))) as session:
        scores = session.score(prompts)
        for prompt, score in zip(prompts, scores, strict=True):
            with torch.inference_mode():
                every = session._model(torch.tensor([prompt])).logits[0].log_softmax(-1)
            alone = every[torch.arange(len(prompt) - 1), prompt[1:]]
            assert score.logprob == pytest.approx(alone.numpy(), abs=1e-4)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft asks transformers so
def test_an_adapter_goes_on_top(tiny_model: Path, tmp_path: Path, prompts: list[list[int]]) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    adapter = lora(tiny_model, tmp_path / "adapter")
    merged = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model), adapter).merge_and_unload()
    with Hf().open(ModelRef(path=str(tiny_model), adapter=str(adapter))) as session:
        with_adapter = session.score([prompts[5]])[0].logprob
        assert session.complete([[0]], max_new_tokens=3, seed=0)
    with Hf().open(ModelRef(path=str(tiny_model))) as session:
        without = session.score([prompts[5]])[0].logprob
    with torch.inference_mode():
        every = merged(torch.tensor([prompts[5]])).logits[0].log_softmax(-1)
    assert with_adapter == pytest.approx(every[torch.arange(16), prompts[5][1:]].numpy(), abs=1e-4)
    assert np.abs(with_adapter - without).max() > 1e-3


def test_the_model_is_let_go_without_the_collector(tiny_model: Path) -> None:
    gc.disable()
    try:
        with Hf(device="cpu").open(ModelRef(path=str(tiny_model))) as session:
            model = weakref.ref(session._model)
            assert model() is not None
        assert model() is None
    finally:
        gc.enable()
    with pytest.raises(FaultError, match="the session is closed"):
        session.score([[1, 2]])


def test_half_precision_is_near(tiny_model: Path, session: CausalSession) -> None:
    with Hf(dtype="bfloat16").open(ModelRef(path=str(tiny_model))) as half:
        assert half._model.dtype == torch.bfloat16
        assert half.score([[0, 5, 9, 30]])[0].logprob == pytest.approx(session.score([[0, 5, 9, 30]])[0].logprob, abs=0.3)


@pytest.mark.parametrize(
    ("path", "message"),
    [("/no/such/folder", "no such model folder; got /no/such/folder"), ("no-such-name/at-all", "no tokenizer")],
)
def test_a_path_without_a_model_is_refused(path: str, message: str) -> None:
    with pytest.raises(ModelError, match=message), Hf().open(ModelRef(path=path)):
        pass


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("model.safetensors", None, "no model: .*model.safetensors"),
        ("model.safetensors", "not weights", "no model: .*header"),
        ("config.json", "{}", "no model: Unrecognized model"),
        ("tokenizer.json", None, "no tokenizer"),
    ],
)
def test_a_damaged_model_is_refused(tiny_model: Path, tmp_path: Path, name: str, write: str | None, message: str) -> None:
    path = copy_of(tiny_model, tmp_path, name, write=write)
    with pytest.raises(ModelError, match=message), Hf().open(ModelRef(path=path)):
        pass


def test_weights_that_do_not_fill_the_model_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    config = (tiny_model / "config.json").read_text().replace('"num_hidden_layers": 2', '"num_hidden_layers": 3')
    path = copy_of(tiny_model, tmp_path, "config.json", write=config)
    with pytest.raises(ModelError, match=r"do not fill the model; got 9 missing, such as model.layers.2"):
        Hf().open(ModelRef(path=path)).__enter__()


def test_scores_that_are_not_finite_are_refused(tiny_model: Path) -> None:
    with Hf().open(ModelRef(path=str(tiny_model))) as session:
        with torch.no_grad():
            session._model.lm_head.weight.fill_(float("nan"))
        with pytest.raises(ModelError, match="not finite; try dtype float32"):
            session.complete([[0]], max_new_tokens=2, seed=0)
        with pytest.raises(ModelError, match="not finite; try dtype float32"):
            session.score([[0, 1]])


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_an_adapter_that_does_not_fit_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    with pytest.raises(ModelError, match=r"no adapter in the folder; expected adapter_config.json"):
        Hf().open(ModelRef(path=str(tiny_model), adapter=str(tmp_path))).__enter__()
    file = lora(tiny_model, tmp_path / "adapter") / "adapter_model.safetensors"
    weights = load_file(file)
    save_file({name: value for name, value in weights.items() if "layers.0" in name}, file)
    with pytest.raises(ModelError, match="does not fit the model: Found missing adapter keys"):
        Hf().open(ModelRef(path=str(tiny_model), adapter=str(file.parent))).__enter__()
    save_file({name: torch.zeros(2, 2) for name in weights}, file)
    with pytest.raises(ModelError, match=r"does not fit the model: .*size mismatch"):
        Hf().open(ModelRef(path=str(tiny_model), adapter=str(file.parent))).__enter__()


def test_a_wrong_device_is_refused(tiny_model: Path) -> None:
    with pytest.raises(SpecError, match="device"):
        Hf(device="tpu")
    with pytest.raises(ModelError, match=r"engine.device: no such device; .*got cuda:99"):
        Hf(device="cuda:99").open(ModelRef(path=str(tiny_model))).__enter__()
