"""What is spilled comes back: in any order, from any disk, by any number of threads."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer.export import spill as module
from composer.export.spill import PAGE, Place, Spill

SCHEMA = pa.schema({"text": pa.large_string(), "n": pa.int32(), "turns": pa.large_list(pa.string())})


def batch(texts: list[str | None]) -> Any:
    columns = [texts, list(range(len(texts))), [[text] * 2 for text in texts]]
    return pa.record_batch(dict(zip(SCHEMA.names, columns, strict=True)), schema=SCHEMA)


BATCHES = [batch([f"{i} and {j}" * i * j for j in range(i % 7)]) for i in range(40)]


def spilled(path: Path) -> None:
    with Spill(path) as spill:
        with ThreadPoolExecutor(4) as pool:
            written = list(pool.map(spill.write, [BATCHES[i : i + 10] for i in range(0, 40, 10)]))
        places = [place for each in written for place in each]
        found = list(spill.read(places[::-1]))
    assert all(mine.equals(other) for mine, other in zip(found[::-1], BATCHES, strict=True))
    assert not path.exists()


@given(st.lists(st.lists(st.text() | st.none(), max_size=20), max_size=8), st.randoms(use_true_random=False))
def test_batches_come_back_in_any_order(texts: list[list[str | None]], dice: Any) -> None:
    batches = [batch(each) for each in texts]
    order = dice.sample(range(len(batches)), len(batches))
    with TemporaryDirectory() as folder, Spill(Path(folder) / "spill") as spill:
        places = spill.write(batches)
        found = list(spill.read([places[i] for i in order]))
    assert len(places) == len(batches)
    assert all(mine.equals(batches[i]) for mine, i in zip(found, order, strict=True))


def test_places_begin_on_pages_and_do_not_overlap(tmp_path: Path) -> None:
    with Spill(tmp_path / "spill") as spill:
        places = sorted(spill.write(BATCHES))
    assert all(place.start % PAGE == 0 for place in places)
    assert all(a.start + a.size <= b.start for a, b in pairwise(places))


def test_a_file_that_is_there_is_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / "spill").write_bytes(b"x" * PAGE * 100)
    with Spill(tmp_path / "spill"):
        assert (tmp_path / "spill").stat().st_size == 0


def test_a_file_system_without_direct_access_is_written_through_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "O_DIRECT", raising=False)
    assert module._opened_direct(tmp_path) is None
    spilled(tmp_path / "spill")


def test_a_disk_of_larger_pages_is_written_through_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[int] = []
    real = os.pwritev

    def pwritev(file: int, views: Any, start: int) -> int:
        if file == spill._direct:
            refused.append(start)
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(file, views, start)

    monkeypatch.setattr(os, "pwritev", pwritev)
    with Spill(tmp_path / "spill") as spill:
        if spill._direct is None:  # wherever the tests run
            spill._direct = spill._file = os.dup(spill._cached)
        found = list(spill.read(spill.write(BATCHES)))
    assert len(refused) == 1
    assert all(mine.equals(other) for mine, other in zip(found, BATCHES, strict=True))


def test_a_slow_disk_is_left_to_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TRIAL", 20 * PAGE)
    for slow, stays in ((0.0, True), (1e18, False)):
        monkeypatch.setattr(module, "SLOW", slow)
        with Spill(tmp_path / "spill") as spill:
            places = spill.write(BATCHES)
            assert (spill._file == spill._direct) == (stays and spill._direct is not None)
            assert all(mine.equals(other) for mine, other in zip(spill.read(places), BATCHES, strict=True))


def test_what_the_system_does_by_halves_is_done_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pwritev", "preadv"):
        real = getattr(os, name)

        def half(file: int, views: Any, start: int, real: Any = real) -> int:
            pages = len(views[0]) // PAGE
            return int(real(file, [views[0][: -(-pages // 2) * PAGE]], start))

        monkeypatch.setattr(os, name, half)
    spilled(tmp_path / "spill")


def test_a_full_disk_and_a_cut_file_are_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Spill(tmp_path / "spill") as spill, pytest.raises(OSError, match="ends before its time"):
        list(spill.read([Place(0, 10)]))

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwritev", full)
    with pytest.raises(OSError, match="No space left"), Spill(tmp_path / "spill") as spill:
        spill.write(BATCHES)
    assert not (tmp_path / "spill").exists()
