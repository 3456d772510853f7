"""The doctor reports on the messy set exactly what the labels say, and changes nothing."""

from __future__ import annotations

import json
import runpy
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.cli import invoke

MESSY = runpy.run_path(str(Path(__file__).parents[1] / "messy.py"))
Report = dict[str, Any]


@pytest.fixture(scope="module")
def messy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    folder = tmp_path_factory.mktemp("messy")
    return folder, MESSY["write"](folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a tokenizer of bytes and what makes it a model's."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("model")
    words = ["<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    made = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>").save_pretrained(folder)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    return str(folder)


def wanted(labels: list[Any], name: str) -> Report:
    """Return what the labels say of a file, in the words of the report."""
    own = [label for label in labels if label.file == name]
    fates = Counter(label.fate for label in own)
    dropped = Counter(label.reason for label in own if label.fate == "dropped")
    return {"seen": len(own), "kept": fates["kept"], "repaired": fates["repaired"], "dropped": dict(sorted(dropped.items()))}


def told(source: Report) -> Report:
    return {**{word: source[word] for word in ("seen", "kept", "repaired")}, "dropped": dict(sorted(source["dropped"].items()))}


def doctor(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[Report, str]:
    code = invoke(["doctor", *map(str, arguments), "--json"])
    seen = capsys.readouterr()
    assert code in (0, 1), seen.err
    assert "Traceback" not in seen.err
    report: Report = json.loads(seen.out)
    assert {"sources", "duplicates", "decontamination", "licences"} <= set(report)
    return report, seen.err


def everything(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(folder.rglob("*"))}


def test_every_file_by_its_path(
    messy: tuple[Path, list[Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, labels = messy
    monkeypatch.chdir(tmp_path)
    before = everything(folder)
    paths = [path for path in sorted(folder.iterdir()) if path.name not in MESSY["OPTIONS"]]
    report, _ = doctor(capsys, *paths)
    found = {Path(source["path"]).name: told(source) for source in report["sources"]}
    expected = {path.name: wanted(labels, path.name) for path in paths}
    assert found.keys() == expected.keys()
    wrong = {name: (found[name], expected[name]) for name in expected if found[name] != expected[name]}
    assert not wrong, "\n".join(f"{name}: told {one}, wanted {other}" for name, (one, other) in wrong.items())
    names = {source["name"]: Path(source["path"]).name for source in report["sources"]}
    copies = Counter(label.file for label in labels if label.reason == "duplicate" and label.file in expected)
    assert {names[name]: n for name, n in report["duplicates"]["within"].items()} == copies
    assert everything(folder) == before
    assert not list(tmp_path.iterdir()), "the doctor left something behind"


def test_declared_files_by_a_recipe(
    messy: tuple[Path, list[Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str], model: str
) -> None:
    folder, labels = messy
    sources = [source for source in MESSY["sources"](folder) if source["name"] in MESSY["OPTIONS"]]
    recipe = {
        "name": "messy",
        "root": str(tmp_path),
        "max_length": 512,
        "base_model": {"path": model},
        "sources": sources,
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    report, _ = doctor(capsys, tmp_path / "recipe.yaml")
    found = {source["name"]: told(source) for source in report["sources"]}
    expected = {source["name"]: wanted(labels, source["name"]) for source in sources}
    wrong = {name: (found[name], expected[name]) for name in expected if found[name] != expected[name]}
    assert not wrong, "\n".join(f"{name}: told {one}, wanted {other}" for name, (one, other) in wrong.items())
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"], "the doctor left something behind"


def test_licences_and_their_conflicts(
    messy: tuple[Path, list[Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str], model: str
) -> None:
    folder, _ = messy
    source = {"name": "rows", "path": str(folder / "licences.jsonl"), "domain": "d", "license": "from_row"}
    recipe = {"name": "licences", "base_model": {"path": model}, "sources": [source]}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    report, _ = doctor(capsys, tmp_path / "recipe.yaml")
    assert report["licences"]["rows"] == {"CC-BY-NC-4.0": 1, "GPL-3.0": 1, "MIT": 2, "unknown": 3}
    conflicts = json.dumps(report["licences"]["conflicts"])
    assert "CC-BY-NC-4.0" in conflicts
    assert "GPL-3.0" in conflicts
