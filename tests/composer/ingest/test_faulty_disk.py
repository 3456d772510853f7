"""A full disk and a run that dies while it tidies up: the next run ends with the same bytes."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from composer.artifact import Artifact, Store
from composer.errors import StoreError
from composer.fingerprint import sha256
from composer.ingest import ingest
from tests.composer.ingest.reading_back import documents, fresh, source


def _full_after(n: int, patch: pytest.MonkeyPatch) -> list[Path]:
    """Let the disk be full from the n-th file on; return the paths of what was to be written."""
    import pyarrow.parquet as pq

    written: list[Path] = []

    def full(real: Callable[..., Any]) -> Callable[..., Any]:
        def writing(self: Any, *args: Any, **kwargs: Any) -> Any:
            path = Path(str(self if isinstance(self, Path) else getattr(self, "where", args[0])))
            written.append(path)
            if len(written) > n:
                if path.parent.is_dir():
                    path.write_bytes(b"PAR1 and what a full disk leaves behind")
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            return real(self, *args, **kwargs)

        return writing

    for owner, name in ((pl.DataFrame, "write_parquet"), (pq.ParquetWriter, "write_table"), (Path, "write_text")):
        patch.setattr(owner, name, full(getattr(owner, name)))
    return written


def test_a_full_disk_is_told_and_the_next_run_goes_on(tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full at the first file, at the second, and so on; every time the next run ends with the same bytes."""
    made = source(documents(tmp_path / "a.jsonl", [f"the {i % 90} river" for i in range(100)]))

    def make(store: Store) -> Artifact:
        build = partial(ingest, made, tokenizer=tokenizer, max_length=64)
        return store.make("source", version=1, spec={}, inputs={}, build=build)

    with monkeypatch.context() as patch:
        total = len((_full_after(1_000, patch), make(Store(tmp_path / "whole")))[0])
    wanted = make(Store(tmp_path / "whole")).manifest
    assert total >= 4
    for n in range(total):
        store = Store(tmp_path / f"full-{n}")
        with monkeypatch.context() as patch:
            _full_after(n, patch)
            with pytest.raises(StoreError, match=os.strerror(errno.ENOSPC)) as told:
                make(store)
        assert "what was complete stays complete" in str(told.value)
        assert store.all() == []
        again = make(store).manifest
        assert (again.files, again.stats) == (wanted.files, wanted.stats), n


@pytest.mark.parametrize("n", range(6))
def test_a_run_that_dies_while_it_tidies_up_goes_on(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n: int
) -> None:
    """The shards go file by file, in no certain order; whatever is left of them must not stand in the way."""
    import shutil

    made = source(documents(tmp_path / "a.jsonl", [f"the {i % 90} river" for i in range(100)]))
    stats = ingest(made, fresh(tmp_path / "whole"), tokenizer=tokenizer, max_length=64)

    def dying(folder: Path, *_: Any, **__: Any) -> None:
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        for path in (files[::-1] if n % 2 else files)[: n // 2 + 1]:
            path.unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", dying)
        with pytest.raises(KeyboardInterrupt):
            ingest(made, fresh(tmp_path / "again"), tokenizer=tokenizer, max_length=64)
    assert ingest(made, tmp_path / "again", tokenizer=tokenizer, max_length=64) == stats
    names = [path.name for path in (tmp_path / "whole").iterdir()]
    assert names
    assert [sha256(tmp_path / "again" / name) for name in names] == [sha256(tmp_path / "whole" / name) for name in names]
