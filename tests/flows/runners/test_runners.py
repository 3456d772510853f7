"""Where work is done bears on no key, and a runner that is not installed says how to install it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from composer.artifact import Store
from composer.errors import SpecError
from composer.spec import member
from flows.pipeline import make_plan
from flows.prefect_spread import spreading
from flows.recipe import read_recipe
from flows.runners import RUNNERS, Runner


def of(fields: object) -> Runner:
    found = member(fields, RUNNERS, kind="runner")
    assert isinstance(found, Runner)
    return found


@pytest.mark.parametrize("name", RUNNERS)
def test_every_runner_has_a_name_a_sentence_and_a_number_of_workers(name: str) -> None:
    runner = of({"name": name, "workers": 3})
    assert (runner.name, runner.workers, bool(runner.summary)) == (name, 3, True)
    with pytest.raises(SpecError, match="workers: input should be greater than or equal to 1"):
        of({"name": name, "workers": 0})


def test_no_runner_bears_on_a_key(world: Path) -> None:
    def keys(*overrides: str) -> dict[str, str]:
        return {
            step.label: step.key for step in make_plan(read_recipe(world / "recipe.yaml", overrides), Store(world / "store"))
        }

    plain = keys()
    for name in RUNNERS:
        assert keys(f"runner={{name: {name}, workers: 5}}") == plain
    with pytest.raises(SpecError, match=r"runner\.name: unknown runner 'spark'; known: dask, process, ray, thread"):
        keys("runner=spark")


def test_threads_have_no_address() -> None:
    assert of("thread").workers == 1
    with pytest.raises(SpecError, match="address"):
        of({"name": "thread", "address": "somewhere"})


def test_threads_split_no_stage() -> None:
    with spreading(of({"name": "thread", "workers": 3})) as spreader:
        assert spreader is None
    assert of({"name": "thread", "workers": 3}).task_runner() is not None


@pytest.mark.parametrize("name", ["ray", "dask"])
def test_a_runner_that_is_not_installed_names_its_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, f"prefect_{name}", None)
    with pytest.raises(SpecError, match=rf"runner\.{name}: is not installed; pip install 'sft-composer\[{name}\]'"):
        of(name).task_runner()


@pytest.mark.parametrize("address", ["auto", "ray://somewhere:10001"])
def test_workers_elsewhere_need_a_server_that_they_can_reach(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setattr("flows.runners.ray.Ray.task_runner", lambda _: None)
    runner = of({"name": "ray", "address": address})
    with pytest.raises(SpecError, match="PREFECT_API_URL: workers elsewhere need a Prefect server"), spreading(runner):
        pass


def test_what_the_page_shows_is_a_runner_and_an_engine() -> None:
    import re

    import yaml

    from probes.engines import ENGINES

    page = (Path(__file__).parents[3] / "docs" / "runners.md").read_text(encoding="utf-8")
    shown = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]
    shown += [yaml.safe_load(text.replace("=", ": ", 1)) for text in re.findall(r"'(runner=.*?)'", page)]
    assert len(shown) == 7
    for each in shown:
        assert member(each["runner"], RUNNERS, kind="runner") if "runner" in each else member(each["engine"], ENGINES, kind="")
