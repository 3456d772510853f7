"""How a run is conducted: what is tried again, what a stage does otherwise, and that none of it enters a key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from composer.artifact import Store
from composer.errors import ModelError, SourceError, SpecError, StoreError
from flows.asked import asked_recipe
from flows.conduct import Conduct, passes, uses_gpu
from flows.pipeline import make_plan
from flows.recipe import read_recipe


def test_what_the_user_says_wrongly_is_not_tried_again() -> None:
    for error in (SpecError("x"), SourceError("x"), ModelError("x"), ValueError("x"), ZeroDivisionError()):
        assert not passes(error), error


def test_faults_of_the_machine_are_tried_again() -> None:
    import httpx
    import torch

    for error in (
        StoreError("disk full"), OSError(28, "No space left"), ConnectionResetError(), TimeoutError("timed out"), MemoryError(),
        httpx.ConnectError("refused"), torch.OutOfMemoryError("CUDA out of memory"),
    ):  # fmt: skip
        assert passes(error), error


def test_a_stage_whose_time_is_up_is_not_tried_again() -> None:
    from prefect.task_engine import TaskRunTimeoutError

    assert issubclass(TaskRunTimeoutError, OSError)
    assert not passes(TaskRunTimeoutError())


def test_a_stage_may_differ() -> None:
    conduct = Conduct(retries=4, timeout_seconds=60, stages={"train": {"timeout_seconds": 600}})
    assert (conduct.of("mix").retries, conduct.of("mix").timeout_seconds) == (4, 60)
    assert (conduct.of("train").retries, conduct.of("train").timeout_seconds) == (4, 600)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"retries": -1}, "retries: input should be greater than or equal to 0"),
        ({"retrys": 1}, "retrys: unknown field of Conduct; did you mean 'retries'?"),
        ({"stages": {"mixx": {}}}, "stages.mixx: no such stage; did you mean 'mix'?"),
        ({"gpu": {"limit": "a b"}}, "gpu.limit: string should match pattern"),
        ({"timeout_seconds": 0}, "timeout_seconds: input should be greater than 0"),
    ],
)
def test_a_wrong_word_is_named(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(SpecError) as error:
        Conduct(**fields)
    assert str(error.value).startswith(told)


def test_no_key_changes_with_it(world: Path) -> None:
    plain = make_plan(read_recipe(world / "recipe.yaml"), Store(world / "store"))
    other = make_plan(
        read_recipe(world / "recipe.yaml", ["flow.retries=7", "flow.gpu={limit: a}", "flow.tags=[b]"]), Store(world / "store")
    )
    assert [step.key for step in plain] == [step.key for step in other]


def test_the_gpu_is_for_training_and_engines(world: Path) -> None:
    plan = make_plan(read_recipe(world / "recipe.yaml"), Store(world / "store"))
    assert {step.stage.name for step in plan if uses_gpu(step.stage.name, step.values)} == {
        "base",
        "probe",
        "train",
        "evaluate",
    }


def test_a_recipe_is_asked_for_by_path_or_text(world: Path) -> None:
    path = world / "recipe.yaml"
    by_path, by_text = asked_recipe(str(path), None, ["seed=9"]), asked_recipe(None, path.read_text(), ["seed=9"])
    assert by_path == by_text
    assert by_text.seed == 9
    for given in ((None, None), (str(path), path.read_text()), ("", " ")):
        with pytest.raises(
            SpecError, match=r"recipe, recipe_text: no one recipe; expected a path or a text; got (both|neither)"
        ):
            asked_recipe(*given)
    with pytest.raises(SpecError, match="the recipe's text, line 2: broken YAML"):
        asked_recipe(None, "a: 1\n b: 2: 3")
    with pytest.raises(SpecError, match="seeds: unknown field of Recipe; did you mean 'seed'"):
        asked_recipe(None, path.read_text() + "\nseeds: 1\n")
