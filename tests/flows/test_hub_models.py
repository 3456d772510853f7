"""Models and adapters on a hub: they are loaded by the libraries that read them, and their cards say what they are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from tests.flows.hub import commands, script
from tests.loopback import Hub

pytestmark = pytest.mark.hub
QUICK = ("probe=null", "law=uniform", "tags=null", "distance=null", "embed=null")
LOGITS = """
import sys
import torch
from transformers import AutoModelForCausalLM

ids = torch.arange(5, 13).reshape(1, 8)
told = lambda model: model(input_ids=ids).logits.detach().double().sum().item()
"""
WHOLE = (
    LOGITS
    + """
print(told(AutoModelForCausalLM.from_pretrained("org/model")), told(AutoModelForCausalLM.from_pretrained(sys.argv[1])))
"""
)
ADAPTER = (
    LOGITS
    + """
from peft import AutoPeftModelForCausalLM, PeftModel

base = AutoModelForCausalLM.from_pretrained(sys.argv[1])
print(told(base), told(AutoPeftModelForCausalLM.from_pretrained("org/adapter")))
print(told(PeftModel.from_pretrained(base, sys.argv[2])))
"""
)
FETCH = """
import sys
from huggingface_hub import snapshot_download

print(snapshot_download(sys.argv[1]))
"""


def without_paths(files: dict[str, bytes], *paths: Path) -> bool:
    return not any(str(path).encode() in body for body in files.values() for path in paths)


def test_a_trained_model_is_loaded_from_the_hub(hub: Hub, small: tuple[Path, Path], tmp_path: Path) -> None:
    recipe, store = small
    [pushed] = commands(hub, tmp_path, ["train", recipe, "--plain", "--store", store, "--hub", "org/model", "--json"])
    assert pushed.code == 0, pushed.err
    files = hub.files("models", "org/model")
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md", "sft-composer.json"} <= files.keys()
    assert without_paths(files, recipe.parent, store, tmp_path)
    key = pushed.document["steps"][-1]["key"]
    here, there = map(float, script(hub, tmp_path, WHOLE, store / "model" / key / "model").split())
    assert here == there
    card = files["README.md"].decode()
    assert yaml.safe_load(card.split("---\n")[1])["library_name"] == "transformers"
    for words in (f"model/{key}", "| law | 0.3", "| MIT | 72 |", "## What was learned and kept", "adapter:\n  name: full"):
        assert words in card, words


def test_an_adapter_names_its_base_on_the_hub_and_is_merged_there(hub: Hub, small: tuple[Path, Path], tmp_path: Path) -> None:
    recipe, store = small
    folder = next((store / "base").iterdir()) / "model"
    commit = hub.seed("models", "org/base", {path.name: path.read_bytes() for path in folder.iterdir()}).branches["main"]
    given = [
        "train", recipe, *QUICK, "base_model={path: org/base}", "train.adapter={name: lora, rank: 2}", "--plain",
        "--store", store, "--hub", "org/adapter", "--json",
    ]  # fmt: skip
    [pushed] = commands(hub, tmp_path, given)
    assert pushed.code == 0, pushed.err
    files = hub.files("models", "org/adapter")
    assert without_paths(files, recipe.parent, store, tmp_path)
    told = json.loads(files["adapter_config.json"])
    assert (told["base_model_name_or_path"], told["revision"]) == ("org/base", commit)
    trained = store / "model" / pushed.document["steps"][-1]["key"] / "adapter"
    base, there, here = map(float, script(hub, tmp_path, ADAPTER, folder, trained).split())
    assert there == here != base
    front = yaml.safe_load(files["README.md"].decode().split("---\n")[1])
    assert (front["library_name"], front["base_model"], front["base_model_relation"]) == ("peft", "org/base", "adapter")
    card = files["README.md"].decode()
    for words in (f"`org/base` at the commit `{commit}`", "name: lora", "rank: 2", "| MIT |", "[arXiv:2106.09685]"):
        assert words in card, words
    assert "What was learned and kept" not in card  # nothing was measured

    out = tmp_path / "merged"
    name = f"model/{trained.parent.name}"
    [merged] = commands(hub, tmp_path, ["merge", folder, name, "--out", out, "--store", store, "--hub", "org/merged", "--json"])
    assert merged.code == 0, merged.err
    files = hub.files("models", "org/merged")
    assert without_paths(files, recipe.parent, store, tmp_path)
    assert files["model.safetensors"] == (out / "model.safetensors").read_bytes()
    assert f"| {name} | 1.0000 |" in files["README.md"].decode()
    assert "| MIT | " in files["README.md"].decode()


def test_licences_of_the_data_stop_the_push_of_a_merge(hub: Hub, small: tuple[Path, Path], tmp_path: Path) -> None:
    recipe, store = small
    base = next((store / "base").iterdir()) / "model"
    barred = ("sources.0.license=CC-BY-NC-4.0", "train.adapter={name: lora, rank: 2}")
    [made] = commands(hub, tmp_path, ["train", recipe, *QUICK, *barred, "--plain", "--store", store, "--json"])
    assert made.code == 0, made.err
    key = made.document["steps"][-1]["key"]
    copy = tmp_path / "copied"
    shutil.copytree(store / "model" / key / "adapter", copy)

    def merge(adapter: object, *more: object) -> list[object]:
        return ["merge", base, adapter, "--out", tmp_path / "out", "--store", store, "--json", *more]

    stopped, unknown, alone, allowed = commands(
        hub, tmp_path, merge(f"model/{key}", "--hub", "org/merged"), merge(copy, "--hub", "org/merged"),
        merge(copy, "--license-conflicts", "allow"),
        merge(store / "model" / key, "--hub", "org/merged", "--license-conflicts", "allow"),
    )  # fmt: skip
    assert [stopped.code, unknown.code, alone.code, allowed.code] == [1, 1, 2, 0], allowed.err
    assert "non-commercial rows bind the whole mix" in stopped.err
    assert "got CC-BY-NC-4.0 of law; leave those sources out, or say --license-conflicts allow if you may" in stopped.err
    assert "got unknown of copied" in unknown.err
    assert "--license-conflicts: only with --hub" in alone.err
    assert hub.sent("POST")[0] == "/api/repos/create"  # of the one that was allowed
    assert "CC-BY-NC-4.0 | non-commercial rows bind the whole mix" in hub.files("models", "org/merged")["README.md"].decode()


@pytest.mark.parametrize(
    "adapter", ["{name: loramoe, n_experts: 2, rank: 2, knowledge: [law]}", "{name: mola, expert: {rank: 2, alpha: 4}}"]
)
def test_experts_come_back_from_the_hub_as_they_were(adapter: str, hub: Hub, small: tuple[Path, Path], tmp_path: Path) -> None:
    recipe, store = small
    name = adapter[7:].partition(",")[0]
    given = ["train", recipe, *QUICK, f"train.adapter={adapter}", "--plain", "--store", store, "--hub", f"org/{name}", "--json"]
    [pushed] = commands(hub, tmp_path, given)
    assert pushed.code == 0, pushed.err
    key = pushed.document["steps"][-1]["key"]
    there = Path(script(hub, tmp_path, FETCH, f"org/{name}").strip())
    card = (there / "README.md").read_text()
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["library_name"] == "sft-composer"
    assert name in front["tags"]
    for words in (f"model/{key}", f"hf download org/{name}", f"name: {name}", "| MIT |"):
        assert words in card, words
    here = store / "model" / key / "adapter"
    files = {path.relative_to(here): path.read_bytes() for path in here.rglob("*") if path.is_file()}
    assert len(files) > 1
    assert files == {path: (there / path).read_bytes() for path in files}
    sent = {path.relative_to(there).as_posix() for path in there.rglob("*") if path.is_file() and ".cache" not in path.parts}
    assert sent - {path.as_posix() for path in files} <= {"README.md", "sft-composer.json", ".gitattributes"}
