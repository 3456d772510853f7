"""The commands ``serve`` and ``deploy`` as far as they go without a server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from flows.cli import invoke


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert invoke([str(argument) for argument in arguments]) == 2
    return capsys.readouterr().err


def test_deploy_writes_what_it_would_apply(
    world: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world)
    arguments = ["deploy", "recipe.yaml", "law.floor=0.1", "flow.tags=[a]", "--flow", "compose", "--cron", "0 3 * * *"]
    more = ["--timezone", "Europe/Berlin", "--paused", "--limit", "2", "--pool", "p", "--write-only", "--json"]
    assert invoke([*arguments, *more]) == 0
    document = json.loads(capsys.readouterr().out)
    text = (world / "prefect.yaml").read_text()
    written = yaml.safe_load(text)
    [deployment] = written["deployments"]
    assert document["server"] is None
    assert deployment == {
        "name": "small", "description": "The flow compose over the recipe small.", "entrypoint": "flows.compose.compose",
        "tags": ["sft-composer", "a"],
        "parameters": {"recipe": str(world / "recipe.yaml"), "overrides": ["law.floor=0.1", "flow.tags=[a]"]},
        "schedules": [{"cron": "0 3 * * *", "timezone": "Europe/Berlin", "active": False}],
        "concurrency_limit": {"limit": 2, "collision_strategy": "ENQUEUE"}, "work_pool": {"name": "p"},
    }  # fmt: skip
    assert written["pull"] == [{"prefect.deployments.steps.set_working_directory": {"directory": str(world)}}]
    assert text.startswith("# Written by sft-composer deploy for recipe.yaml")


def test_a_file_of_another_hand_is_not_written_over(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = world / "recipe.yaml"
    assert invoke(["deploy", str(recipe), "--write-only", "--interval", "60"]) == 0
    assert "train/small (interval 60.0 active True) is written" in " ".join(capsys.readouterr().out.split())
    assert invoke(["deploy", str(recipe), "--write-only"]) == 0
    assert yaml.safe_load((world / "prefect.yaml").read_text())["deployments"][0]["schedules"] == []
    (world / "prefect.yaml").write_text("name: mine\n")
    told = refused(capsys, "deploy", recipe, "--write-only")
    assert "a file that was not written for this recipe" in told
    assert (world / "prefect.yaml").read_text() == "name: mine\n"
    assert invoke(["deploy", str(recipe), "--write-only", "--to", str(world / "other.yaml")]) == 0


def test_what_is_wrong_is_said_before_anything_is_written(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = world / "recipe.yaml"
    for arguments, told in (
        (("--cron", "0 3 * *"), 'error: --cron: not a schedule: Invalid cron string: "0 3 * *"; expected five fields'),
        (("--cron", "0 3 * * *", "--timezone", "Mars/X"), "error: --timezone: not a schedule"),
        (("--cron", "0 3 * * *", "--interval", "60"), "error: --cron, --interval: two schedules; expected one of them"),
        (("--flow", "trane"), "error: --flow: no such flow; expected train, compose, probe; got trane"),
        (("seeds=1",), "error: seeds: unknown field of Recipe; did you mean 'seed'?"),
    ):
        assert told in refused(capsys, "deploy", recipe, *arguments, "--write-only")
    assert not (world / "prefect.yaml").exists()


def test_a_schedule_needs_a_server_that_stays(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        for command in ("serve", "deploy"):
            told = refused(capsys, command, world / "recipe.yaml")
            assert "error: PREFECT_API_URL: no Prefect server is named; prefect server start --host 127.0.0.1" in told
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):
        assert invoke(["deploy", str(world / "recipe.yaml")]) == 3
        assert "the Prefect server does not answer" in capsys.readouterr().err
    assert not (world / "prefect.yaml").exists()


def test_a_flow_is_loaded_with_prefects_settings_made_ready() -> None:
    import subprocess
    import sys

    code = (
        "import sys, flows.cli, flows.asked, flows.deployment; assert 'prefect' not in sys.modules; import flows.compose; "
        "from prefect.settings import get_current_settings as now; "
        "print(now().server.ephemeral.startup_timeout_seconds, now().server.analytics_enabled)"
    )
    import os

    clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=clean)
    assert done.stdout.split() == ["120", "False"]
