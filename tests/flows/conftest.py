"""A hub on the loopback interface with a small recipe to push, and one server for all tests of scheduled flows."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.flows.prefect_world import POOL, World, prefect_world, recipe_of
from tests.loopback import Hub, serving


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving() as served:
        yield served


@pytest.fixture(scope="session")
def small(done: tuple[Path, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The recipe that was carried out, and a copy of its store."""
    store = tmp_path_factory.mktemp("hub") / "store"
    shutil.copytree(done[0] / "store", store)
    return done[0] / "recipe.yaml", store


@pytest.fixture(scope="session")
def scheduled(tmp_path_factory: pytest.TempPathFactory, done: tuple[Path, dict[str, Any]]) -> Iterator[World]:
    """A server, a worker, and the recipe ``small`` deployed to run every minute, and run once by its schedule."""
    for each in prefect_world(tmp_path_factory.mktemp("prefect")):
        recipe = str(recipe_of(each.folder, done))
        each.compose("deploy", recipe, "--flow", "compose", "--cron", "* * * * *", "--pool", POOL, "--limit", "4")
        each.worker()
        each.by_schedule = each.first_by_schedule()
        yield each
