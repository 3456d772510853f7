"""The messy set, which holds whatever goes wrong in files: no good row is lost and every row becomes what its label says."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from composer.conversation import whole
from composer.fingerprint import sha256
from composer.types import Source
from tests.composer.ingest.reading_back import Fate, outcome, parts, source

MESSY = runpy.run_path(str(Path(__file__).parents[2] / "messy.py"))


@pytest.fixture(scope="module")
def messy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    folder = tmp_path_factory.mktemp("messy")
    return folder, MESSY["write"](folder)


def test_the_generator_writes_the_same_bytes_twice(messy: tuple[Path, list[Any]], tmp_path: Path) -> None:
    folder, labels = messy
    assert MESSY["write"](tmp_path / "again") == labels
    names = sorted(path.name for path in folder.iterdir())
    assert [sha256(tmp_path / "again" / name) for name in names] == [sha256(folder / name) for name in names]
    assert set(MESSY["OPTIONS"]) <= set(names), "options of a file that is not written"


def test_every_row_becomes_what_its_label_says(messy: tuple[Path, list[Any]], tmp_path: Path) -> None:
    folder, labels = messy
    wrong: list[str] = []
    for fields in MESSY["sources"](folder):
        wanted = {label.row: label for label in labels if label.file == fields["name"]}
        try:
            fates, _ = outcome(Source(**fields), tmp_path / fields["name"])
        except (Exception, AssertionError) as error:
            wrong.append(f"{fields['name']}: {type(error).__name__}: {str(error)[:300]}")
            continue
        wrong += _differences(fields["name"], wanted, fates)
    assert not wrong, f"{len(wrong)} files\n" + "\n".join(wrong)


def _differences(name: str, wanted: dict[int, Any], fates: dict[int, Fate]) -> list[str]:
    """Return nothing, or one text with the first rows of a file that did not become what they should."""
    told = []
    for row in sorted(wanted.keys() | fates.keys()):
        label, fate = wanted.get(row), fates.get(row)
        if not (label and fate and label[2:4] == fate[:2] and label.answer in (None, fate[2])):
            told.append(f"  row {row}: wanted {str(label and label[2:])[:80]}, got {str(fate)[:80]}")
    more = f"  and {len(told) - 5} more" if len(told) > 5 else ""
    return ["\n".join([name, *told[:5], *([more] if more else [])])] if told else []


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json.gz"])
def test_tools_calls_and_thinking_survive(messy: tuple[Path, list[Any]], tmp_path: Path, name: str) -> None:
    folder, _ = messy
    raws = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    outcome(source(folder / name), tmp_path / "out")
    compared = 0
    for row in parts(tmp_path / "out", "rows"):
        raw = raws[row["row"]]
        if not isinstance(raw.get("messages"), list):
            continue
        found = whole(row["messages"], row["extras"])
        tools = raw.get("tools")
        assert found.tools == (json.loads(tools) if isinstance(tools, str) else tools)
        for turn, given in zip(found.turns, raw["messages"], strict=False):
            thinking = given.get("thinking", given.get("reasoning_content"))
            for key, value in (("tool_calls", given.get("tool_calls")), ("thinking", thinking), ("name", given.get("name"))):
                assert turn.get(key) == value
                compared += value is not None
    assert compared == 7


def test_every_word_and_every_format_is_in_the_set(messy: tuple[Path, list[Any]]) -> None:
    folder, labels = messy
    words = {label.reason for label in labels if label.fate == "dropped"}
    assert words >= {
        "invalid_json", "invalid_encoding", "invalid_csv", "wrong_fields", "truncated_file", "unreadable_file", "not_an_object",
        "unknown_shape", "other_shape", "wrong_type", "unknown_role", "unsupported_content", "no_answer", "empty_answer",
        "empty_prompt", "duplicate",
    }  # fmt: skip
    repairs = {word for label in labels if label.fate == "repaired" for word in label.reason.split("+")}
    assert repairs == {"control_characters", "lone_surrogates", "lenient_json", "trailing_turns"}
    endings = {"".join(path.suffixes[-2:]) for path in folder.iterdir()}
    assert endings >= {".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".jsonl.gz", ".jsonl.zst", ".csv.gz"}


def test_the_whole_set_is_one_source_too(messy: tuple[Path, list[Any]], tmp_path: Path) -> None:
    """All files in one folder: numbers run on over the files, and only copies across files are counted otherwise."""
    folder, _ = messy
    fates, stats = outcome(source(folder), tmp_path / "out")
    assert sorted(fates) == list(range(len(fates))), "a number is missing"
    assert stats["samples"] > 300
