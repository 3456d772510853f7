"""A messy set: everything that goes wrong in files of instruction data, labelled row by row.

``python tests/messy.py FOLDER`` writes the files and prints the labels; the same bytes every time. Every bad row stands between
good ones, since what is asked of a reader is two things: the word for the bad row, and that its neighbours survive. Labels are
written down by hand beside what they label and owe nothing to the code that is judged by them: ``messy_files`` holds both, a
module per kind of file.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))  # a script finds only what lies beside it

from tests.messy_files import columnar, empty, encodings, lines, packed, rows, tables
from tests.messy_files.cases import FILTERED, Case


class Label(NamedTuple):
    """What must become of a row: ``reason`` is the word of its drop, or the words of its repairs with a plus between.

    Rows are numbered per file. ``answer`` is the content of the last turn where it is told.
    """

    file: str
    row: int
    fate: str  # kept, repaired or dropped
    reason: str = ""
    answer: str | None = None


# What a reader must be told about a file, as fields of a Source; every other file needs nothing.
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "cp1252.jsonl": {"encoding": "cp1252"},
    "cp1252.csv": {"encoding": "cp1252"},
    "cp1252.json": {"encoding": "cp1252"},
    "shift_jis.jsonl": {"encoding": "shift_jis"},
    "shift_jis.csv.gz": {"encoding": "shift_jis"},
    "utf-16-declared.jsonl": {"encoding": "utf-16-le"},
    "columns.jsonl": {"columns": {"instruction": "ask", "output": "say"}},
    "columns.csv": {"columns": {"prompt": "Frage", "completion": "Antwort"}},
    "columns.parquet": {"columns": {"text": "body"}},
    "speakers.jsonl": {
        "columns": {"messages": "log", "role": "who", "content": "what"},
        "roles": {"bot": "assistant", "visitor": "user"},
    },
    "roles.jsonl": {"roles": {"bot": "assistant", "narrator": "system"}},
    "licences.jsonl": {"license": "from_row"},
    "licences.csv": {"license": "from_row"},
    "where.jsonl": {"where": {"split": "train"}},
    "alpaca-only.jsonl": {"adapter": "alpaca"},
}


def write(folder: Path) -> list[Label]:
    """Write every file into a folder and return the labels of all their rows."""
    folder.mkdir(parents=True, exist_ok=True)
    labels: list[Label] = []
    for kind in (rows, lines, encodings, tables, packed, columnar, empty):
        for name, content, cases in kind.files():
            (folder / name).write_bytes(content)
            labels += _labels(name, cases)
    return labels


def sources(folder: Path) -> list[dict[str, Any]]:
    """Return the fields of one Source per file, sorted by name."""
    return [
        {"name": path.name, "path": str(path), "domain": "messy", **OPTIONS.get(path.name, {})}
        for path in sorted(folder.iterdir())
    ]


def _labels(name: str, cases: Iterable[Case]) -> list[Label]:
    fates = {"": "kept", "+": "repaired", "-": "dropped"}
    every = [(i, case) for i, case in enumerate(cases) if case.verdict != FILTERED]
    return [Label(name, i, fates[case.verdict[:1]], case.verdict[1:], case.answer) for i, case in every]


if __name__ == "__main__":
    for label in write(Path(sys.argv[1])):
        print(label.file, label.row, label.fate, label.reason, sep="\t")
