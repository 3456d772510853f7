"""A whole recipe in miniature: three small domains, a base model of a few steps, everything in seconds."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import settings

# The same examples on every run, so that a commit is judged by what it changes; --hypothesis-profile=explore draws new ones.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("explore", derandomize=False, print_blob=True, deadline=None)
settings.load_profile("same")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests of servers and pages: they wait much, and others go on beside them."""
    items.sort(key=lambda item: not any(map(item.get_closest_marker, ("prefect", "browser"))))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None]:
    """Let the garbage collector pass over what is imported: every training asks it to look through all that there is."""
    gc.disable()
    yield
    gc.enable()
    gc.collect()
    gc.freeze()


DOMAINS = ("law", "medicine", "code")
WORDS = {
    "law": "court statute fine clause judge appeal contract verdict",
    "medicine": "dose fever clinic symptom nurse vaccine tablet pulse",
    "code": "function loop array return string compile branch commit",
}


def write_world(folder: Path) -> None:
    """Write documents and questions of every domain as JSON lines."""
    for domain in DOMAINS:
        words = WORDS[domain].split()
        texts = [" ".join(words[(i * i * k + 3 * i + k * k) % 8] for k in range(1, 10)) + f" {i}" for i in range(60)]
        write(folder / f"{domain}-text.jsonl", [{"text": text} for text in texts])
        rows = [
            {
                "instruction": f"Name what follows {words[i % 8]} in {domain}.",
                "input": f"case {i}",
                "output": words[(i + 1) % 8],
            }
            for i in range(40)
        ]
        write(folder / f"{domain}.jsonl", rows)


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def small_recipe(**changes: Any) -> dict[str, Any]:
    """Return a recipe over the small world, with changes."""
    sources: list[dict[str, Any]] = [
        {"name": domain, "path": f"{domain}.jsonl", "domain": domain, "license": "MIT"} for domain in DOMAINS
    ]
    sources += [
        {"name": f"{domain}-text", "path": f"{domain}-text.jsonl", "domain": domain, "role": "reference"} for domain in DOMAINS
    ]
    return {
        "name": "small",
        "seed": 3,
        "max_length": 64,
        "base_model": {
            "train": {"vocab": 400, "hidden": 64, "heads": 2, "layers": 1, "intermediate": 64, "context": 32, "documents": 90,
                      "weights": {"law": 0.5, "medicine": 0.3, "code": 0.2}, "threads": 1},
            "corpora": {domain: {"path": f"{domain}-text.jsonl"} for domain in DOMAINS},
        },
        "domains": list(DOMAINS),
        "sources": sources,
        "holdout": 0.2,
        "embed": {"name": "lexical", "dims": 8},
        "probe": {"name": "self_generation", "samples": 40, "max_new_tokens": 12},
        "law": {"name": "knowledge", "floor": 0.05},
        "budget": {"amount": 200, "unit": "loss_tokens", "max_repeats": 3},
        "exports": ["parquet", "chat_jsonl"],
        "train": {"adapter": "full", "batch_size": 8, "threads": 1},
        "evaluate": {"max_samples": 6},
        **changes,
    }  # fmt: skip


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A folder with the small world and ``recipe.yaml``; the store goes to ``store`` beside it."""
    write_world(tmp_path)
    recipe = small_recipe(root=str(tmp_path))
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    return tmp_path


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The small recipe carried out once, plainly: the folder and what ``run --json`` printed."""
    from composer.artifact import Store
    from flows.pipeline import make_plan
    from flows.recipe import read_recipe
    from flows.shell import carry_out

    folder = tmp_path_factory.mktemp("done")
    write_world(folder)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(small_recipe(root=str(folder)), sort_keys=False))
    store = Store(folder / "store")
    return folder, carry_out(make_plan(read_recipe(folder / "recipe.yaml"), store), store, plain=True)


@pytest.fixture
def small_world(done: tuple[Path, dict[str, Any]]) -> Callable[[Path], None]:
    """Lay the small world out as the pages of the docs speak of it: data/, models/my-base and recipe.yaml."""

    def lay(folder: Path) -> None:
        write_world(folder)
        (folder / "data").mkdir()
        for domain in DOMAINS:
            (folder / "data" / f"{domain}.jsonl").write_bytes((folder / f"{domain}.jsonl").read_bytes())
        (folder / "models").mkdir()
        (folder / "models" / "my-base").symlink_to(done[1]["base"].path / "model")
        (folder / "recipe.yaml").write_text(yaml.safe_dump(small_recipe(), sort_keys=False))

    return lay
