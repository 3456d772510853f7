"""The tab key in a real bash: commands, options, recipe fields, their words, and files."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from composer.cluster import CLUSTERERS
from composer.dedup import DEDUP
from composer.export import EXPORTERS
from composer.laws import LAWS
from composer.replay import REPLAY
from composer.select import SELECTORS
from composer.similarity import DISTANCES
from composer.train import Train
from composer.train.adapters import ADAPTERS
from composer.train.reweight import REWEIGHTING
from composer.types import Budget
from flows.cli import invoke
from flows.recipe import Recipe
from flows.runners import RUNNERS
from flows.sections import BaseModel
from flows.words import FIELDS, override_words
from probes.embed import EMBEDDERS
from probes.engines import ENGINES
from probes.knowledge import KNOWLEDGE
from probes.tags import TAGGERS

ROOT = Path(__file__).parents[2]
BASH = Path("/bin/bash")
ZSH = shutil.which("zsh")
FAMILIES: dict[str, Any] = {
    "dedup": DEDUP, "law": LAWS, "replay": REPLAY, "select": SELECTORS, "replay_select": SELECTORS, "distance": DISTANCES,
    "cluster": CLUSTERERS, "probe": KNOWLEDGE, "engine": ENGINES, "embed": EMBEDDERS, "tags": TAGGERS, "exports": EXPORTERS,
    "train.adapter": ADAPTERS, "train.law": REWEIGHTING, "runner": RUNNERS,
}  # fmt: skip
SECTIONS: dict[str, Any] = {
    "": Recipe, "train": Train, "budget": Budget, "base_model": BaseModel, "probe": KNOWLEDGE["self_generation"],
}  # fmt: skip


def test_the_words_are_those_of_the_recipe() -> None:
    assert {field for field in FIELDS if "." not in field} == set(Recipe.model_fields)
    assert {field: FIELDS[field] for field in FAMILIES} == {field: tuple(family) for field, family in FAMILIES.items()}
    for field in FIELDS:
        section, _, name = field.rpartition(".")
        fields = SECTIONS[section].model_fields
        assert name in fields
        if FIELDS[field] and field not in FAMILIES:
            assert FIELDS[field] == get_args(fields[name].annotation), field


def test_what_is_not_begun_is_not_offered() -> None:
    assert override_words("law=k") == ["law=knowledge"]
    assert override_words("train.ad") == ["train.adapter="]
    assert override_words("max_length=") == override_words("frobnicate") == []


class Terminal:
    """A bash at a terminal of its own."""

    def __init__(self, folder: Path) -> None:
        self._at, there = pty.openpty()
        environment = {"PATH": f"{folder}:{os.environ['PATH']}", "TERM": "dumb", "PYTHONPATH": str(ROOT), "PS1": "ready "}
        self.bash = subprocess.Popen(
            [BASH, "--norc", "--noprofile", "-i"], stdin=there, stdout=there, stderr=there, cwd=folder, env=environment,
            start_new_session=True,
        )  # fmt: skip
        os.close(there)

    def type(self, keys: str, *, until: str) -> str:
        """Type keys and return what is shown until a pattern matches, or fail after a while."""
        os.write(self._at, keys.encode())
        seen, end = "", time.monotonic() + 60
        while not re.search(until, seen):
            if not select.select([self._at], [], [], max(0, end - time.monotonic()))[0]:
                raise AssertionError(f"{until!r} never came after {keys!r}: {seen!r}")
            seen += os.read(self._at, 4096).decode(errors="replace")
        return seen

    def close(self) -> None:
        self.bash.kill()
        self.bash.wait()
        os.close(self._at)


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    if not BASH.exists():
        pytest.skip("no bash on this machine")
    folder = tmp_path_factory.mktemp("bash")
    command = folder / "sft-composer"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m flows "$@"\n')
    command.chmod(0o755)
    (folder / "recipe.yaml").write_text("")
    opened = Terminal(folder)
    opened.type("eval \"$(sft-composer completion bash)\"; echo 'loa'ded\n", until="loaded")
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("sft-composer estim", "estimate "),
        ("sft-composer run rec", "recipe.yaml "),
        ("sft-composer run recipe.yaml max_le", "max_length="),
        ("sft-composer run recipe.yaml law=kn", "law=knowledge "),
        ("sft-composer run recipe.yaml law.floor=0.1 loss_on=l", "loss_on=last "),
        ("sft-composer mix recipe.yaml --dry", "--dry-run "),
        ("sft-composer completion fi", "fish "),
    ],
)
def test_the_tab_key_completes(terminal: Terminal, typed: str, shown: str) -> None:
    terminal.type(f"{typed}\t", until=f"{re.escape(shown)}$")
    terminal.type("\x15echo 'cle'ar\n", until="clear")  # Ctrl-U takes the line away


def test_twice_the_tab_key_lists_the_words(terminal: Terminal) -> None:
    shown = terminal.type("sft-composer run recipe.yaml law=\t\t", until="uniform")
    assert "law=uniform" not in shown, "bash cuts a word at the sign"
    terminal.type("\x15echo 'cle'ar\n", until="clear")


@pytest.mark.skipif(not ZSH, reason="needs zsh")
def test_the_first_tab_in_zsh_completes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file in fpath is the body of the function that the first tab calls."""
    assert invoke(["completion", "zsh"]) == 0
    (tmp_path / "_sft-composer").write_text(capsys.readouterr().out)
    stubs = "CURRENT=1 words=(x); compdef() { }; env() { print print completed }"
    asked = f"{stubs}; fpath=(.); autoload -Uz _sft-composer; _sft-composer"
    done = subprocess.run([str(ZSH), "-f", "-c", asked], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("completed\n", "", 0)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_has_a_script(capsys: pytest.CaptureFixture[str], shell: str) -> None:
    assert invoke(["completion", shell]) == 0
    shown = capsys.readouterr().out
    assert "sft-composer" in shown
    assert f"complete_{shell}" in shown
    assert invoke(["completion", "tcsh"]) == 2
    assert "tcsh" in capsys.readouterr().err
