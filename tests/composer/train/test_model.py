"""A model is loaded whole or refused in one line."""

from __future__ import annotations

import json
import pickle
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from composer.encode import load_tokenizer
from composer.errors import ModelError
from composer.train.adapters.lora import Lora
from composer.train.model import fingerprint, load
from composer.types import ModelRef
from probes.engines.hf import Hf


def test_a_model_comes_in_float32_with_its_tokenizer(base: ModelRef) -> None:
    model, tokenizer = load(base, device="cpu")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.config.vocab_size == len(tokenizer)


def test_an_adapter_is_merged_into_the_weights(base: ModelRef, tmp_path: Path) -> None:
    adapter, ids = Lora(rank=2), torch.arange(5, 25)[None]
    model = adapter.attach(load(base, device="cpu")[0], previous=None, seed=0)
    with torch.no_grad():
        for name, tensor in adapter.state(model).items():
            tensor.fill_(0.05 if "lora_B" in name else 0.1)
        adapter.save(model, None, tmp_path)
        merged, _ = load(ModelRef(path=base.path, adapter=str(tmp_path / "adapter")), device="cpu")
        torch.testing.assert_close(merged(ids).logits, model(ids).logits)
        assert not torch.allclose(merged(ids).logits, load(base, device="cpu")[0](ids).logits)


@pytest.mark.parametrize("path", ["/no/such/model", "./nowhere", "~/nowhere", "a/b/c"])
def test_a_path_that_can_only_be_local_is_not_sought_on_the_hub(path: str) -> None:
    with pytest.raises(ModelError, match=r"base_model.path: no such folder; expected a model folder or a Hub id"):
        load(ModelRef(path=path), device="cpu")


def test_a_hub_id_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=r"no model: .*got nobody/nothing; give a folder"):
        load(ModelRef(path="nobody/nothing"), device="cpu")


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no model in the folder; expected config.json"):
        load(ModelRef(path=str(tmp_path)), device="cpu")


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="a file, not a model folder"):
        load(ModelRef(path=str(tmp_path / "model.safetensors")), device="cpu")


@pytest.mark.parametrize("content", ["{}", "not json", '{"model_type": "no-such-type"}', '{"model_type": "llama"}'])
def test_a_folder_with_a_broken_model(content: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content, encoding="utf-8")
    with pytest.raises(ModelError, match="no model: "):
        load(ModelRef(path=str(tmp_path)), device="cpu")


def test_pickled_weights_are_refused(base: ModelRef, tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((Path(base.path) / name).read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"no model: .*safetensors"):
        load(ModelRef(path=str(tmp_path)), device="cpu")


RAN = "planted code ran"


class Payload:
    """Unpickled, it says so."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"raise SystemExit({RAN!r})",)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors", "model.pt", "adapter"])
def test_a_pickle_is_not_opened_under_any_name(name: str, base: ModelRef, tmp_path: Path) -> None:
    """A pickle that would run code takes the place of the weights, and of an adapter's."""
    pickled = pickle.dumps(Payload())
    with pytest.raises(SystemExit, match=RAN):
        pickle.loads(pickled)  # noqa: S301 - it is the planted one
    for file in Path(base.path).iterdir():
        if file.suffix != ".safetensors" or name == "adapter":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    ref = ModelRef(path=str(tmp_path))
    if name == "adapter":
        (tmp_path / "adapter").mkdir()
        (tmp_path / "adapter/adapter_model.bin").write_bytes(pickled)
        (tmp_path / "adapter/adapter_config.json").write_text('{"peft_type": "LORA", "r": 2, "target_modules": ["q_proj"]}')
        ref = ModelRef(path=str(tmp_path), adapter=str(tmp_path / "adapter"))
    else:
        (tmp_path / name).write_bytes(pickled)
    with pytest.raises(ModelError, match=r"no model: |no adapter in the folder"):
        load(ref, device="cpu")
    if name != "adapter":
        with pytest.raises(ModelError, match="no model: "), Hf().open(ref):
            pass


@pytest.mark.parametrize("name", ["../elsewhere.safetensors", "/elsewhere.safetensors", "a/../../elsewhere.safetensors"])
def test_an_index_cannot_have_weights_read_from_elsewhere(name: str, base: ModelRef, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for file in Path(base.path).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "model.safetensors").rename(tmp_path / "elsewhere.safetensors")
    with safe_open(tmp_path / "elsewhere.safetensors", "pt") as weights:
        index = {"metadata": {}, "weight_map": dict.fromkeys(weights.keys(), name)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="weights outside the model's folder; got"):
        load(ModelRef(path=str(folder)), device="cpu")
    with pytest.raises(ModelError, match="weights outside the model's folder; got"), Hf().open(ModelRef(path=str(folder))):
        pass


def test_code_that_comes_with_a_tokenizer_is_not_run(base: ModelRef, tmp_path: Path) -> None:
    for file in Path(base.path).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    own = json.loads((tmp_path / "tokenizer_config.json").read_text())
    own |= {"tokenizer_class": "Mine", "auto_map": {"AutoTokenizer": ["mine.Mine", "mine.Mine"]}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(own))
    (tmp_path / "mine.py").write_text(f"raise SystemExit({RAN!r})")
    with suppress(ModelError):  # it is refused, or its tokenizer.json is read without the code
        assert load_tokenizer(tmp_path)("law")["input_ids"]


def test_code_that_comes_with_a_model_is_not_run(tmp_path: Path) -> None:
    config = {"model_type": "mine", "auto_map": {"AutoConfig": "mine.C", "AutoModelForCausalLM": "mine.M"}}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "mine.py").write_text("raise SystemExit('ran')", encoding="utf-8")
    with pytest.raises(ModelError, match="no model: "):
        load(ModelRef(path=str(tmp_path)), device="cpu")


def test_an_adapter_that_is_not_there(base: ModelRef, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no adapter in the folder"):
        load(ModelRef(path=base.path, adapter=str(tmp_path)), device="cpu")


def test_an_adapter_knows_its_base_and_is_put_on_no_other(run: Any, base: ModelRef, gpt2: ModelRef, tmp_path: Path) -> None:
    run(tmp_path, adapter={"name": "lora", "rank": 4})
    folder = tmp_path / "adapter"
    told = json.loads((folder / "adapter.json").read_text())
    assert told["adapter"]["name"] == "lora"
    assert told["base"] == fingerprint(load(base, device="cpu")[0])
    assert load(ModelRef(path=base.path, adapter=str(folder)), device="cpu")
    with pytest.raises(ModelError, match=r"an adapter of another base; expected base \w+; got base \w+; load the base"):
        load(ModelRef(path=gpt2.path, adapter=str(folder)), device="cpu")
    (folder / "adapter.json").write_text("{")
    with pytest.raises(ModelError, match="a broken description"):
        load(ModelRef(path=base.path, adapter=str(folder)), device="cpu")


def test_a_fingerprint_is_of_the_weights_in_any_precision(base: ModelRef, gpt2: ModelRef) -> None:
    network = load(base, device="cpu")[0]
    found = fingerprint(network)
    assert found == fingerprint(network.to(torch.bfloat16)) != fingerprint(load(gpt2, device="cpu")[0])
    with torch.no_grad():
        network.model.norm.weight[0] += 1
    assert fingerprint(network) != found
