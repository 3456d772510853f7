"""Rows in memory and parts on disk, made of plain texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from composer.dedup import Part
from composer.dedup.rows import Rows
from composer.ingest.judging import ROW
from composer.ingest.keys import key
from composer.types import Role


def _messages(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


@pytest.fixture(scope="session")
def make_rows() -> Callable[..., Rows]:
    def make(texts: Sequence[str], *, rank: Sequence[int] | None = None, fixed: Sequence[int] = (), step: int = 7) -> Rows:
        n = len(texts)
        flags = np.zeros(n, dtype=np.bool_)
        flags[list(fixed)] = True
        series = pl.Series(list(texts), dtype=pl.String)
        return Rows(
            key=pl.Series([key(_messages(text)) for text in texts], dtype=pl.Binary),
            rank=np.arange(n) if rank is None else np.asarray(rank),
            fixed=flags,
            texts=lambda: iter([series[i : i + step] for i in range(0, n, step)]),
        )

    return make


@pytest.fixture
def make_part(tmp_path: Path) -> Callable[..., Part]:
    def make(source: str, texts: Sequence[str], *, role: Role = "target", per_file: int = 3) -> Part:
        folder = tmp_path / source
        folder.mkdir()
        for i in range(0, max(len(texts), 1), per_file):
            rows = [
                {"row": i + j, "messages": _messages(text), "key": key(_messages(text))}
                for j, text in enumerate(texts[i : i + per_file])
            ]
            frame = pl.DataFrame(rows, schema=pl.Schema(ROW))
            frame.write_parquet(folder / f"rows-{i // per_file:05}.parquet")
        return Part.of_read(folder, source=source, role=role)

    return make
