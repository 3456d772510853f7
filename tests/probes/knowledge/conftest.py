"""What the knowledge probes' tests share: reference texts."""

from __future__ import annotations

import polars as pl
import pytest

from tests.probes.knowledge.writing import examples


@pytest.fixture(scope="module")
def reference() -> pl.DataFrame:
    return examples()
