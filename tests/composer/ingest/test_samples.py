"""Ingest loses nothing in silence and writes the same bytes twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.encode import encode
from composer.errors import SourceError
from composer.fingerprint import sha256
from composer.ingest import opening, reading, samples
from tests.composer.ingest.five import FILES, FIVE, check_laws, jsonl, read, run

DATA = Path(__file__).parents[3] / "../shared/data/domains"


def test_five_shapes_in_one_file(tokenizer: Any, tmp_path: Path) -> None:
    stats = run(tokenizer, jsonl(tmp_path / "a.jsonl", FIVE), tmp_path / "out")
    check_laws(stats, tmp_path / "out")
    assert stats["shapes"] == {"alpaca": 1, "messages": 1, "prompt_completion": 1, "sharegpt": 1, "text": 1}
    kept, instructions, _ = read(tmp_path / "out")
    assert instructions["text"].to_list() == ["The river?", "The court?", "Divide.", "The bond?", ""]
    assert kept["messages"][2].to_list()[0]["content"] == "Divide.\n\na cell"
    assert kept.select("source", "domain", "role", "license").unique().rows() == [("s", "d", "target", "unknown")]


def test_five_shapes_in_one_parquet_table(tokenizer: Any, tmp_path: Path) -> None:
    pl.DataFrame(FIVE, infer_schema_length=None).write_parquet(tmp_path / "a.parquet")
    stats = run(tokenizer, tmp_path / "a.parquet", tmp_path / "out")
    assert stats["shapes"] == {"alpaca": 1, "messages": 1, "prompt_completion": 1, "sharegpt": 1, "text": 1}


def test_counts_are_those_of_encode(tokenizer: Any, tmp_path: Path) -> None:
    run(tokenizer, jsonl(tmp_path / "a.jsonl", FIVE), tmp_path / "out", max_length=20)
    kept = read(tmp_path / "out")[0]
    for row in kept.iter_rows(named=True):
        encoding = encode(tokenizer, [row["messages"]], max_length=20)[0]
        assert not isinstance(encoding, str)
        assert (row["n_tokens"], row["n_loss_tokens"]) == (len(encoding.ids), encoding.n_loss_tokens)


def test_dropped_rows_are_kept_with_number_reason_and_text(tokenizer: Any, tmp_path: Path) -> None:
    content = [b'{"text": "one"}', b'{"text": "one"}', b'{"te', b"[1]", b'{"text": "caf\xe9"}', b'{"a": "' + b"x" * 900 + b'"}']
    (tmp_path / "a.jsonl").write_bytes(b"\n".join([*content, b'{"text": "two"}']))
    stats = run(tokenizer, tmp_path / "a.jsonl", tmp_path / "out")
    check_laws(stats, tmp_path / "out")
    dropped = read(tmp_path / "out")[2]
    reasons = ["duplicate", "invalid_json", "not_an_object", "invalid_encoding", "unknown_shape"]
    assert dropped["row"].to_list() == [1, 2, 3, 4, 5]
    assert dropped["reason"].to_list() == reasons
    assert dropped["text"].to_list()[1:4] == ['{"te', "[1]", '{"text": "caf?"}']
    assert '"content":"one"' in dropped["text"][0]
    assert len(dropped["text"][4]) == 500


def test_duplicates_are_found_across_batches(tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"text": f"the {i % 7}"} for i in range(30)]
    whole = run(tokenizer, jsonl(tmp_path / "a.jsonl", rows), tmp_path / "whole")
    monkeypatch.setattr(reading, "PART", 4)
    monkeypatch.setattr(opening, "CHUNK", 64)
    monkeypatch.setattr(samples, "SHARD", 3)
    assert run(tokenizer, tmp_path / "a.jsonl", tmp_path / "small") == whole
    assert (whole["kept"], whole["dropped"]) == (7, {"duplicate": 23})
    for one, other in zip(read(tmp_path / "whole"), read(tmp_path / "small"), strict=True):
        assert one.equals(other)


def test_a_copy_of_a_row_that_is_too_long_is_a_copy(tokenizer: Any, tmp_path: Path) -> None:
    long = {"prompt": "The river " * 40, "completion": "flows."}
    stats = run(tokenizer, jsonl(tmp_path / "a.jsonl", [long, long, {"text": "t"}]), tmp_path / "out")
    assert stats["dropped"] == {"duplicate": 1, "no_loss_tokens": 1}


def test_where_filters_and_counts(tokenizer: Any, tmp_path: Path) -> None:
    rows = [{"text": f"t {i}", "split": "test" if i % 3 else "train", "n": i % 2, "ok": i > 4} for i in range(12)]
    path = jsonl(tmp_path / "a.jsonl", [*rows, [], {"text": "no split"}])
    stats = run(tokenizer, path, tmp_path / "out", where={"split": "train", "n": "0", "ok": "true"})
    check_laws(stats, tmp_path / "out")
    assert (stats["seen"], stats["kept"], stats["filtered"], stats["dropped"]) == (2, 1, 12, {"not_an_object": 1})
    with pytest.raises(SourceError, match=r"no rows; expected .*; got 13 filtered, 1 not_an_object"):
        run(tokenizer, path, tmp_path / "none", where={"split": "dev"})


@pytest.mark.parametrize("batch", [8, 40, 4_000])
def test_limit_keeps_the_first_rows(tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    monkeypatch.setattr(opening, "CHUNK", batch)
    rows = [{"text": ""}, {"text": "a"}, {"text": "a"}, {"text": "b"}, {"bad": 1}, {"text": "c"}]
    path = jsonl(tmp_path / "a.jsonl", rows)
    stats = run(tokenizer, path, tmp_path / "out", limit=2)
    check_laws(stats, tmp_path / "out")
    assert (stats["seen"], stats["kept"], stats["dropped"]) == (4, 2, {"duplicate": 1, "empty_answer": 1})
    assert run(tokenizer, path, tmp_path / "all", limit=99)["kept"] == 3


def test_a_folder_is_read_in_order(tokenizer: Any, tmp_path: Path) -> None:
    for name, text in (("b.jsonl", "second"), ("a/x.jsonl", "first"), ("c.json", "third")):
        jsonl(tmp_path / "in" / name, [{"text": text}])
    (tmp_path / "in/README.md").write_text("nothing to read")
    run(tokenizer, tmp_path / "in", tmp_path / "out")
    assert [talk[0]["content"] for talk in read(tmp_path / "out")[0]["messages"]] == ["first", "second", "third"]


def test_a_stopped_run_goes_on(tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "CHUNK", 64)
    monkeypatch.setattr(reading, "PART", 8)
    monkeypatch.setattr(samples, "SHARD", 3)
    path = jsonl(tmp_path / "a.jsonl", [{"text": f"the {i % 17}"} for i in range(40)])
    whole = run(tokenizer, path, tmp_path / "whole")
    for stage, at in (("_write_part", 3), ("_ids", 2)):
        module = reading if stage == "_write_part" else samples
        done, calls = getattr(module, stage), []

        def dying(*args: Any, done: Any = done, calls: list[int] = calls, at: int = at) -> Any:
            calls.append(1)
            if len(calls) == at:
                raise KeyboardInterrupt
            return done(*args)

        monkeypatch.setattr(module, stage, dying)
        folder = tmp_path / stage
        with pytest.raises(KeyboardInterrupt):
            run(tokenizer, path, folder)
        records = {record.stem[-5:] for record in folder.rglob("part-*.json")}
        complete = {f"{i:05}" for i in range(len(records)) if all(f"{k:05}" in records for k in range(i + 1))}
        before = {
            file.name: file.stat().st_mtime_ns
            for file in folder.rglob("*.parquet")
            if file.parent.name == ".shards" or file.stem[-5:] in complete
        }
        assert before, "what was complete lies there"
        monkeypatch.setattr(module, stage, done)
        monkeypatch.setattr(samples.shutil, "rmtree", lambda *_, **__: None)
        assert run(tokenizer, path, folder) == whole
        monkeypatch.undo()
        monkeypatch.setattr(opening, "CHUNK", 64)
        monkeypatch.setattr(reading, "PART", 8)
        monkeypatch.setattr(samples, "SHARD", 3)
        after = {file.name: file.stat().st_mtime_ns for file in folder.rglob("*.parquet")}
        assert before.items() <= after.items(), "what was complete was not done again"
        assert [sha256(folder / name) for name in FILES] == [sha256(tmp_path / "whole" / name) for name in FILES]


def test_the_same_source_gives_the_same_bytes(tokenizer: Any, tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"text": f"the {i % 900}", "instruction": None} for i in range(2_500)])
    sums = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        run(tokenizer, path, folder)
        sums.append([sha256(folder / name) for name in FILES])
    assert sums[0] == sums[1]


def test_a_hub_dataset_is_read_like_a_file(tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked: list[Any] = []

    def load_dataset(path: str, **options: Any) -> Any:
        asked.append((path, options))
        return datasets.Dataset.from_list([{"messages": row["messages"], "n": i} for i, row in enumerate(FIVE[:1] * 3)])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    stats = run(tokenizer, "org/name", tmp_path / "out", subset="en", split="dev", revision="v1")
    check_laws(stats, tmp_path / "out")
    assert (stats["kept"], stats["dropped"]) == (1, {"duplicate": 2})
    assert asked == [("org/name", {"name": "en", "split": "dev", "revision": "v1"})]


def test_a_row_of_a_million_characters(tokenizer: Any, tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"text": "river " * 170_000}, {"text": "x" * 1_000_000}, {"text": "t"}])
    stats = run(tokenizer, path, tmp_path / "out")
    assert (stats["kept"], stats["truncated"]) == (3, 2)


json_rows = st.dictionaries(
    st.sampled_from(["text", "prompt", "completion", "instruction", "output", "messages", "license"]),
    st.none() | st.integers() | st.text(max_size=8) | st.lists(st.text(max_size=3), max_size=2) | st.floats(),
    max_size=4,
)


@settings(max_examples=25, deadline=None)
@given(rows=st.lists(json_rows | st.integers() | st.text(max_size=5), max_size=12))
def test_no_row_is_lost_whatever_it_is(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    folder = tmp_path_factory.mktemp("any")
    path = jsonl(folder / "a.jsonl", [{"text": "sure"}, *rows])
    stats = run(tokenizer, path, folder / "out", license="from_row")
    check_laws(stats, folder / "out")
    assert stats["seen"] == len(rows) + 1


@pytest.mark.parametrize("domain", ["law", "code"])
def test_real_rows(tokenizer: Any, tmp_path: Path, domain: str) -> None:
    path = DATA / f"{domain}.parquet"
    if not path.exists():
        pytest.skip("shared data is not on this machine")
    stats = run(tokenizer, path, tmp_path, max_length=4_096, license="from_row", domain=domain)
    check_laws(stats, tmp_path)
    raw = pl.read_parquet(path)
    assert stats["seen"] == len(raw)
    assert stats["shapes"] == {"alpaca": stats["samples"]}
    assert set(stats["licenses"]) <= set(raw["license"])
    assert sum(stats["dropped"].values()) < 0.05 * len(raw)
