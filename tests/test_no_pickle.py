"""No source of the houses unpickles, evaluates, or runs code that came with data: their syntax trees are read."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for house in ("composer", "probes", "flows") for path in (ROOT / house).rglob("*.py"))

MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "jsonpickle", "pandas"}
CALLS = {
    "eval", "exec", "compile", "__import__", "torch.load", "torch.save", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all",
    "datasets.load_from_disk", "os.system", "os.popen", "tarfile.open", "zipfile.ZipFile", "shutil.unpack_archive",
}  # fmt: skip
OBJECTS = {"broadcast_object_list", "all_gather_object", "gather_object", "scatter_object_list", "to_pickle", "read_pickle"}
"""Calls that pickle on the way, by their last name."""
ALLOWED = {
    ("flows/yaml_text.py", "yaml.load"): "its loader is a subclass of SafeLoader that refuses more",
    ("flows/completion.py", "shell"): "an argument of that name: the shell that a script is written for",
}


def faults(text: str) -> Iterator[tuple[str, int]]:
    """Yield what must not stand in a source, with its line."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names]
            yield from ((name, node.lineno) for name in names if name.partition(".")[0] in MODULES)
        elif isinstance(node, ast.Call):
            yield from ((fault, node.lineno) for fault in _of_call(node))


def _of_call(call: ast.Call) -> Iterator[str]:
    name = ast.unparse(call.func)
    last = name.rpartition(".")[2]
    given = {each.arg: each.value.value for each in call.keywords if isinstance(each.value, ast.Constant)}
    if name in CALLS or last in OBJECTS or name == "yaml.load":
        yield name
    for word in ("trust_remote_code", "allow_pickle", "shell"):
        if given.get(word, False) is not False or any(each.arg == word and word not in given for each in call.keywords):
            yield word
    if name in ("np.load", "np.save") and given.get("allow_pickle", True):
        yield f"{name} without allow_pickle=False"
    if last == "from_pretrained" and name.startswith("Auto"):
        if "trust_remote_code" not in given:
            yield f"{name} without trust_remote_code=False"
        if "Model" in name and given.get("use_safetensors") is not True:
            yield f"{name} without use_safetensors=True"


@pytest.mark.parametrize("text", [
    "import pickle", "from joblib import load", "import dill.source", "torch.load(f)", "np.load(f)",
    "np.load(f, allow_pickle=True)",
    "eval(x)", "yaml.load(x, Loader=yaml.Loader)", "f(trust_remote_code=True)", "f(trust_remote_code=given)",
    "AutoModel.from_pretrained(p, trust_remote_code=False)", "dist.broadcast_object_list(x)", "run(x, shell=True)",
])  # fmt: skip
def test_the_reading_finds_every_kind(text: str) -> None:
    assert list(faults(text))


def test_nothing_unpickles_or_runs_what_it_reads() -> None:
    assert len(SOURCES) > 250
    found = [
        (path.relative_to(ROOT).as_posix(), *fault) for path in SOURCES for fault in faults(path.read_text(encoding="utf-8"))
    ]
    assert [each for each in found if each[:2] not in ALLOWED] == []
    assert {each[:2] for each in found} >= set(ALLOWED)


def test_every_task_and_flow_of_prefect_keeps_no_result() -> None:
    makers = 0
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("task", "flow") and path.parent.name == "flows":
                given = {each.arg: ast.unparse(each.value) for each in node.keywords}
                if given.get("name", "").startswith("running."):  # stands for a flow and is never run
                    continue
                makers += 1
                kept = given.get("persist_result") or given.get(None)  # ``**NO_PICKLE``
                assert kept in ("False", "NO_PICKLE"), f"{path}:{node.lineno}"
    assert makers >= 4
