"""The examples of every command's help: all can be parsed, and those that cost little do what they say."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer.main

from flows.cli import app, invoke
from flows.examples import EXAMPLES

GROUP: Any = typer.main.get_command(app)
ALL = [example for examples in EXAMPLES.values() for example in examples]
LOOKS = ("init", "doctor", "ls", "show", "why", "verify", "picture", "probe diff", "mix diff", "completion")
ELSEWHERE = ("org/", "before/", "0a1b")  # a hub, or artifacts that this world has not
CHEAP = [
    example
    for command, examples in EXAMPLES.items()
    for example in examples
    if ("--dry-run" in example or command in LOOKS) and not any(word in example for word in ELSEWHERE)
]


def test_every_command_ends_its_help_with_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(EXAMPLES) == [*dict.fromkeys(EXAMPLES)]
    assert set(EXAMPLES) == set(GROUP.commands)
    for command, examples in EXAMPLES.items():
        assert 1 <= len(examples) <= 2, command
        GROUP.main([*command.split(), "--help"], prog_name="sft-composer", standalone_mode=False)
        shown = capsys.readouterr().out
        for example in examples:
            assert example.startswith(f"{command} ") or example == command
            assert f"  sft-composer {example}\n" in shown, "an example is one line, to be copied"
        assert GROUP.commands[command].help, command


def test_every_group_of_commands_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["--help"]) == 0
    shown = [line.split("  ")[1] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert set(GROUP.commands) <= set(shown)


@pytest.mark.parametrize("example", ALL)
def test_an_example_is_one_that_its_command_takes(example: str) -> None:
    words = shlex.split(example)
    with GROUP.make_context("sft-composer", list(words)) as context:
        name, command, rest = GROUP.resolve_command(context, words)
        with command.make_context(name, rest, parent=context) as parsed:
            assert not parsed.args


@pytest.fixture(scope="module")
def laid(tmp_path_factory: pytest.TempPathFactory, done: tuple[Path, Any]) -> Path:
    folder = tmp_path_factory.mktemp("examples")
    shutil.copytree(done[0] / "store", folder / "store")
    return folder


@pytest.fixture
def world_of_examples(laid: Path, small_world: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch) -> Path:
    if not (laid / "recipe.yaml").exists():
        small_world(laid)
    monkeypatch.chdir(laid)
    return laid


@pytest.mark.usefixtures("world_of_examples")
@pytest.mark.parametrize("example", CHEAP)
def test_a_cheap_example_does_what_it_says(example: str, capsys: pytest.CaptureFixture[str]) -> None:
    extra = ["--out", "drafted.yaml"] if example.startswith("init") else []
    code = invoke([*shlex.split(example), *extra])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    assert shown.out
