"""A hub on the loopback interface, and a small recipe that was carried out, to be pushed to it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

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
