"""The plan of a recipe whose data and models are elsewhere, or nowhere yet: empty files stand in for them.

A plan's shape follows from the recipe alone; what its files hold only enters the keys, which an estimate does not read.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from composer.artifact import Store
from flows.pipeline import make_plan
from flows.plan import Plan
from flows.recipe import Recipe


def draft(recipe: Recipe) -> Plan:
    """Return the plan of a recipe; neither its sources nor its models are looked at."""
    with tempfile.TemporaryDirectory() as folder:
        empty, model = Path(folder, "empty.jsonl"), Path(folder, "model")
        empty.touch()
        model.mkdir()
        for file in ("config.json", "tokenizer.json"):
            (model / file).write_text("{}", encoding="utf-8")
        data = recipe.model_dump()
        for source in (*data["sources"], *((data["decontaminate"] or {}).get("against") or ())):
            source["path"] = str(empty)
        base = data["base_model"]
        base |= {"chat_template": base["chat_template"] if base["chat_template"] in ("auto", "plain") else str(empty)}
        base |= {"path": str(model)} if base["path"] else {}
        for corpus in base["corpora"].values():
            corpus["path"] = str(empty)
        for field in ("embed", "tags", "probe"):
            data[field] = _moved(data[field], str(model))
        return make_plan(Recipe(**{**data, "root": folder}), Store(Path(folder, "store")))


def _moved(value: Any, path: str) -> Any:
    """Return fields with every model of theirs at one path."""
    if not isinstance(value, dict):
        return value
    return {key: path if key == "model" and isinstance(each, str) else _moved(each, path) for key, each in value.items()}
