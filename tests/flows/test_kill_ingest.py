"""Killed at twenty random moments while it reads 200,000 rows, ingest goes on where it was and ends with the same bytes."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from composer.artifact import Store
from tests.flows.started import started

ROWS, KILLS = 200_000, 20
WORDS = ["river", "court", "leaf", "stone", "cloud", "fever", "dose", "string"]
State = dict[Path, tuple[int, int, int]]


def start(folder: Path, store: str) -> subprocess.Popen[str]:
    return started(folder, "ingest", "--store", store, stderr=subprocess.DEVNULL)


def write_rows(path: Path) -> None:
    """Write rows of three shapes, most of them documents, with copies, broken lines and empty answers among them."""
    dice = random.Random(11)
    with path.open("w") as file:
        for i in range(ROWS):
            ask, say = f"{dice.choice(WORDS)} {i}?", " ".join(dice.choices(WORDS, k=6))
            if i % 97 == 0:
                ask, say = "again?", "again"
            row: dict[str, Any] = {"text": f"{ask} {say}"}
            if i % 10 == 1:
                row = {"instruction": ask, "output": "" if i % 211 == 0 else say}
            elif i % 10 == 2:
                row = {"messages": [{"role": "user", "content": ask}, {"role": "assistant", "content": say}]}
            file.write('{"broken": \n' if i % 5_003 == 0 else json.dumps(row) + "\n")


def write_model(folder: Path) -> None:
    """Write a tokenizer of a dozen words, with what makes its folder a model's."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<s>", "</s>", "<unk>", "user", "assistant", *WORDS]
    model = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    model.pre_tokenizer = pre_tokenizers.Whitespace()
    made = PreTrainedTokenizerFast(tokenizer_object=model, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    made.save_pretrained(folder)
    (folder / "config.json").write_text('{"model_type": "llama"}')


@pytest.fixture
def world(tmp_path: Path) -> Path:
    write_rows(tmp_path / "rows.jsonl")
    write_model(tmp_path / "model")
    recipe = {
        "name": "kill",
        "root": str(tmp_path),
        "max_length": 64,
        "base_model": {"path": "model"},
        "sources": [{"name": "rows", "path": "rows.jsonl", "domain": "d", "license": "MIT"}],
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return tmp_path


def complete_parts(store: Store) -> State:
    """Return every part that is complete, with what tells it from one that was written again."""
    found = {}
    for path in store.root.glob(".partial/**/*"):
        try:
            stat = path.stat()
        except FileNotFoundError:  # renamed or removed meanwhile
            continue
        if path.is_file() and path.parent.name.startswith(".") and not path.name.endswith(".aside"):
            found[path] = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
    return found


def files_of(store: Store) -> dict[str, Any]:
    (artifact,) = store.all("samples") or store.all()
    assert store.verify(artifact) == [], "a torn artifact was taken for complete"
    return {name: record.model_dump() for name, record in artifact.manifest.files.items()}


def finish(process: subprocess.Popen[str]) -> None:
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, out
    assert {step["state"] for step in json.loads(out)["steps"]} <= {"made", "present"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_twenty_kills_change_nothing(world: Path) -> None:
    whole, store = Store(world / "whole"), Store(world / "store")
    finish(start(world, "whole"))
    (undisturbed,) = whole.all()
    stats, seconds = undisturbed.manifest.stats, undisturbed.manifest.made["seconds"]
    assert stats["seen"] == ROWS == stats["kept"] + stats["repaired"] + sum(stats["dropped"].values())
    assert set(stats["dropped"]) == {"duplicate", "empty_answer", "invalid_json"}

    dice, parts, kills, amid = random.Random(5), State(), 0, 0
    while kills < KILLS:
        process = start(world, "store")
        wait_for_work(process, store)
        time.sleep(dice.uniform(0, seconds / 8))
        if process.poll() is None:
            alone = kills % 2  # the processes that it started must not outlive it
            (os.kill if alone else os.killpg)(process.pid, signal.SIGKILL)
            kills += 1
        process.communicate(timeout=30)
        if store.all():  # it came to its end: begin again, so that there is work to kill
            assert files_of(store) == files_of(whole)
            shutil.rmtree(store.root)
            parts = {}
            continue
        now = complete_parts(store)
        again = [path.name for path in parts.keys() & now.keys() if parts[path] != now[path]]
        assert again == [], "complete parts were done again"
        if not any(store.root.glob(".partial/*/*/samples.parquet")):  # else it was about to tidy up
            assert parts.keys() <= now.keys(), "complete parts are gone"
        amid += now.keys() > parts.keys()
        parts = now
    assert amid >= KILLS // 4, "the kills came too early to tell anything"
    finish(start(world, "store"))
    assert files_of(store) == files_of(whole)
    assert store.all()[0].manifest.stats == stats


def wait_for_work(process: subprocess.Popen[str], store: Store) -> None:
    """Wait until the process has written something below the store, or has ended."""
    before, end = everything(store), time.time() + 60
    while time.time() < end and process.poll() is None and everything(store) == before:
        time.sleep(0.02)


def everything(store: Store) -> set[tuple[str, int]]:
    found = set()
    for path in store.root.glob(".partial/**/*"):
        try:
            found.add((str(path), path.stat().st_mtime_ns))
        except FileNotFoundError:
            continue
    return found
