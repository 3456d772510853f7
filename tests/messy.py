"""A messy set: everything that goes wrong in files of instruction data, labelled row by row.

``python tests/messy.py FOLDER`` writes the files and prints the labels; the same bytes every time. Every bad row stands between
good ones, since what is asked of a reader is two things: the word for the bad row, and that its neighbours survive. Labels are
written down by hand beside what they label and owe nothing to the code that is judged by them.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq


class Label(NamedTuple):
    """What must become of a row: ``reason`` is the word of its drop, or the words of its repairs with a plus between.

    Rows are numbered per file. ``answer`` is the content of the last turn where it is told.
    """

    file: str
    row: int
    fate: str  # kept, repaired or dropped
    reason: str = ""
    answer: str | None = None


class Case(NamedTuple):
    """A row and its verdict: empty for a kept row, ``+word`` for a repaired and ``-word`` for a dropped one.

    ``raw`` is a value of JSON, or bytes or str as they stand in the file; None stands nowhere (a tail that is lost).
    """

    raw: Any
    verdict: str = ""
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

JSON, DEEP = json.dumps, 10_000
FILTERED = "filtered"  # the verdict of a row that the recipe does not want: no row of the count, yet a number


def write(folder: Path) -> list[Label]:
    """Write every file into a folder and return the labels of all their rows."""
    folder.mkdir(parents=True, exist_ok=True)
    labels: list[Label] = []
    for make in (_shapes, _lines, _arrays, _encodings, _csv, _compressed, _parquet, _empty):
        for name, content, cases in make():
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


# Rows ---------------------------------------------------------------------------------------------------------------------


def good(n: int, word: str = "river") -> Case:
    """Return the n-th good row, in one of seven shapes, turn about."""
    ask, say = f"Question {n} of the {word}?", f"Answer {n} of the {word}."
    rows: tuple[dict[str, Any], ...] = (
        {"messages": _talk(ask, say)},
        {"conversations": [{"from": "human", "value": ask}, {"from": "gpt", "value": say}]},
        {"instruction": ask, "input": "", "output": say},
        {"prompt": ask, "completion": say},
        {"question": ask, "answer": say},
        {"text": say},
        {"instruction": ask, "context": word, "response": say},
    )
    return Case(rows[n % len(rows)], "", say)


def among(cases: Iterable[Case], fill: Callable[[int], Case] = good) -> list[Case]:
    """Return the cases with a good row before, between and after them."""
    out = [fill(0)]
    for n, case in enumerate(cases, 1):
        out += [case, fill(n)]
    return out


def _talk(*texts: str, system: str = "") -> list[dict[str, Any]]:
    turns = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
    return [*([{"role": "system", "content": system}] if system else []), *turns]


def _turns(*pairs: tuple[Any, Any], **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in pairs], **more}


_CALL = {"id": "c1", "type": "function", "function": {"name": "height", "arguments": '{"of": "hill"}'}}
_TOOLS = [{"type": "function", "function": {"name": "height", "parameters": {"type": "object"}}}]
_USE = [
    {"role": "user", "content": "How high is the hill?"},
    {"role": "assistant", "content": None, "tool_calls": [_CALL]},
    {"role": "tool", "content": '{"metres": 12}', "tool_call_id": "c1", "name": "height"},
    {"role": "assistant", "content": "Twelve metres."},
]
_THINK = {"role": "assistant", "content": "Nine.", "reasoning_content": "three threes"}


def _from(*pairs: tuple[str, Any], **more: Any) -> dict[str, Any]:
    return {"conversations": [{"from": who, "value": value} for who, value in pairs], **more}


# Fine as they are.
KEPT: tuple[Any, ...] = (
    {"messages": _talk("Hail?", "Ice.", system="Be brief.")},
    {"messages": _talk("One?", "1", "Two?", "2", "Three?", "3")},
    _turns(("user", "Part one."), ("user", "Part two."), ("assistant", "Both."), ("assistant", "Parts.")),
    _turns(("assistant", "Welcome."), ("user", "Thanks."), ("assistant", "Sit down.")),
    _turns(("user", [{"type": "text", "text": "In "}, {"type": "text", "text": "parts"}]), ("assistant", "Joined.")),
    {"messages": _USE, "tools": _TOOLS},
    {"messages": _USE[:2]},  # the answer is a call
    {"messages": [{"role": "user", "content": "Tools as text?"}, *_USE[1:]], "tools": JSON(_TOOLS)},
    {"messages": [{"role": "user", "content": "3 x 3?"}, _THINK]},
    {"messages": [{"role": "user", "content": "4 x 4?"}, {"role": "assistant", "content": "16", "thinking": "two eights"}]},
    {"messages": _talk("5 x 5?", "<think>five fives</think>\n\n25")},
    {"messages": JSON(_talk("Messages as text?", "Read as they are meant."))},
    _from(("human", "Fog?"), ("gpt", "Low cloud."), system="Weather only."),
    _from(("system", "Short."), ("human", "Dew?"), ("gpt", "Water.")),
    _from(("user", "Mist?"), ("assistant", "Thin fog.")),
    _from(("human", "Depth?"), ("function_call", '{"name": "depth", "arguments": {}}'), ("observation", '{"m": 3}'),
          ("gpt", "3 m"), tools='[{"name": "depth"}]'),
    _from(("human", "Width?"), ("function_call", {"name": "width", "arguments": {}}), ("observation", {"m": 7}),
          ("gpt", "7 m")),
    _from(("gpt", "I speak first."), ("gpt", "And again."), ("human", "Why?"), ("gpt", "Habit.")),
    {"instruction": "Go on.", "input": "a tale", "output": "It ends.", "system": "A poet.", "history": [["Begin.", "Once."]]},
    {"instruction": "No input.", "input": None, "output": "None.", "history": None, "system": None},
    {"instruction": "", "input": "Only input.", "output": "Enough."},
    {"instruction": "Two columns.", "response": "Fine."},
    {"prompt": _talk("List prompt?"), "completion": [{"role": "assistant", "content": "List answer."}]},
    {"prompt": _talk("Mixed?"), "completion": "Mixed."},
    {"query": "A query?", "response": "A response."},
    {"question": "Where?", "answer": "There.", "context": "A map.", "system": "A guide."},
    {"text": "Line one.\r\nLine two.\r\n\ttab\n"},
    {"text": "separators \u2028 \u2029 \x85 \xa0 \x7f inside"},
    {"text": "emoji \U0001f30a and a pair \u00e9\u4e2d\ufeff"},
    {"text": "a hundred digits beside it", "n": 10**100},
    {"text": "nulls and nests beside it", "a": None, "b": {"c": [[], {}, [None]]}, "": 0},
    {"messages": None, "conversations": None, "text": "shapes that are null are absent"},
)  # fmt: skip
REPAIRED: tuple[tuple[Any, str], ...] = (
    ({"messages": [*_talk("Done?", "Done."), {"role": "user", "content": "Thanks!"}]}, "trailing_turns"),
    (_from(("human", "Left?"), ("gpt", "Right."), ("human", "Oh.")), "trailing_turns"),
    (_turns(("user", "Said?"), ("assistant", "Said."), ("user", "More?"), ("assistant", " ")), "trailing_turns"),
    ({"text": "nul \x00, bell \x07 and escape \x1b[0m"}, "control_characters"),
    ({"instruction": "Form\x0cfeed?", "output": "Vertical\x0btab."}, "control_characters"),
    ({"prompt": "units \x1c\x1d\x1e\x1f?", "completion": "separators"}, "control_characters"),
    ({"text": "half an emoji \ud83d here"}, "lone_surrogates"),
    ({"messages": _talk("the other \udf0a half", "yes")}, "lone_surrogates"),
    ({"text": "both \x01 and \ud83d"}, "control_characters+lone_surrogates"),
)
DROPPED: tuple[tuple[Any, str], ...] = (
    ([1, 2], "not_an_object"),
    (["text", "a list"], "not_an_object"),
    ("a string", "not_an_object"),
    (3.5, "not_an_object"),
    (True, "not_an_object"),
    (None, "not_an_object"),
    ({}, "unknown_shape"),
    ({"title": "no shape", "body": "of ours"}, "unknown_shape"),
    ({"messages": None}, "unknown_shape"),
    ({"text": None}, "unknown_shape"),
    ({"instruction": "no answer beside it"}, "unknown_shape"),
    ({"messages": "not a list"}, "wrong_type"),
    ({"messages": {"role": "user"}}, "wrong_type"),
    ({"messages": [1, 2]}, "wrong_type"),
    ({"conversations": 7}, "wrong_type"),
    ({"text": 7}, "wrong_type"),
    ({"text": ["a", "b"]}, "wrong_type"),
    ({"instruction": "Number?", "output": 7}, "wrong_type"),
    ({"instruction": {"a": 1}, "output": "An object?"}, "wrong_type"),
    ({"instruction": "Pairs?", "output": "Yes.", "history": [["one"]]}, "wrong_type"),
    ({"instruction": "Texts?", "output": "Yes.", "history": [[1, 2]]}, "wrong_type"),
    ({"prompt": 1, "completion": "one"}, "wrong_type"),
    (_turns(("narrator", "Night fell."), ("assistant", "Dark.")), "unknown_role"),
    (_turns((None, "Who?"), ("assistant", "Me.")), "unknown_role"),
    ({"messages": [{"content": "No role."}, {"role": "assistant", "content": "None."}]}, "unknown_role"),
    (_from(("alien", "Zap."), ("gpt", "What?")), "unknown_role"),
    (_turns(("user", [{"type": "image_url", "image_url": {"url": "x"}}]), ("assistant", "A cat.")), "unsupported_content"),
    (_turns(("user", 7), ("assistant", "Seven.")), "unsupported_content"),
    (_turns(("user", "A question only?")), "no_answer"),
    (_turns(("system", "A system only.")), "no_answer"),
    ({"messages": []}, "no_answer"),
    ({"conversations": []}, "no_answer"),
    (_from(("human", "Anybody?")), "no_answer"),
    ({"instruction": "Empty?", "output": ""}, "empty_answer"),
    ({"instruction": "Blank?", "output": " \n\t"}, "empty_answer"),
    ({"instruction": "Null?", "output": None}, "empty_answer"),
    ({"prompt": "Empty too?", "completion": ""}, "empty_answer"),
    ({"question": "Empty as well?", "answer": ""}, "empty_answer"),
    ({"text": ""}, "empty_answer"),
    ({"text": " \u00a0\u2003"}, "empty_answer"),
    ({"text": "\x00\x07"}, "empty_answer"),  # nothing is left once it is repaired
    (_turns(("user", "Hm?"), ("assistant", "")), "empty_answer"),
    ({"instruction": "", "input": " ", "output": "To what?"}, "empty_prompt"),
    ({"prompt": "", "completion": "To what?"}, "empty_prompt"),
    ({"question": None, "answer": "To what?"}, "empty_prompt"),
    (_turns(("user", " "), ("assistant", "To what?")), "empty_prompt"),
)


def _every_row() -> list[Case]:
    cases = [Case(row) for row in KEPT]
    cases += [Case(row, f"+{word}") for row, word in REPAIRED]
    cases += [Case(row, f"-{word}") for row, word in DROPPED]
    copies = [Case(good(0).raw, "-duplicate"), Case(KEPT[0], "-duplicate"), Case({"messages": _talk("Question 2 of the river?",
              "Answer 2 of the river.")}, "-duplicate")]  # fmt: skip
    return among([*cases, *copies])


# Lines and arrays ---------------------------------------------------------------------------------------------------------

File = tuple[str, bytes, Sequence[Case]]


def _line(raw: Any) -> bytes:
    return raw if isinstance(raw, bytes) else JSON(raw).encode()


def _joined(cases: Iterable[Case], end: bytes = b"\n") -> bytes:
    return b"".join(_line(case.raw) + end for case in cases)


def _array(cases: Iterable[Case]) -> bytes:
    return b"[" + b",\n ".join(_line(case.raw) for case in cases) + b"]"


def _shapes() -> Iterable[File]:
    """Every row that JSON can say, in everything that holds JSON."""
    rows, seven = _every_row(), [good(n) for n in range(21)]
    yield "rows.jsonl", _joined(rows), rows
    yield "rows.ndjson", _joined(rows, b"\r\n").rstrip(), rows
    yield "rows.json", _array(rows), rows
    yield "rows-lines.json", _joined(rows), rows
    yield "rows-data.json", b'{"version": "1.0", "data": ' + _array(rows) + b"}\n", rows
    yield "rows-indented.json", json.dumps([case.raw for case in rows], indent=2).encode(), rows
    yield "shapes.jsonl", _joined(seven), seven
    yield "one-object.json", json.dumps(good(0).raw, indent=1).encode(), [good(0)]
    for name in ("columns.jsonl", "speakers.jsonl", "roles.jsonl", "licences.jsonl", "where.jsonl", "alpaca-only.jsonl"):
        yield name, _joined(chosen := _told(name)), chosen


def _told(name: str) -> list[Case]:
    """Rows of the files whose columns, speakers or licences are declared."""
    if name == "columns.jsonl":
        return [Case({"ask": "A?", "say": "B.", "output": 7}, "", "B."), Case({"ask": "C?", "say": ""}, "-empty_answer"),
                Case({"ask": "C?", "say": "D."}, "", "D.")]  # fmt: skip
    if name == "speakers.jsonl":
        logs = [[("visitor", "A?"), ("bot", "B.")], [("ghost", "Boo."), ("bot", "Eek.")], [("visitor", "C?"), ("bot", "D.")]]
        rows = [{"log": [{"who": who, "what": what} for who, what in log]} for log in logs]
        return [Case(rows[0], "", "B."), Case(rows[1], "-unknown_role"), Case(rows[2], "", "D.")]
    if name == "roles.jsonl":
        return [Case(_turns(("narrator", "Once."), ("user", "A?"), ("bot", "B.")), "", "B."),
                Case(_from(("human", "C?"), ("bot", "D.")), "", "D."),
                Case(_turns(("ghost", "Boo."), ("bot", "Eek.")), "-unknown_role"),
                Case({"messages": _talk("E?", "F.")}, "", "F.")]  # fmt: skip
    if name == "where.jsonl":
        words = ("train", "test", "train", None, "train")
        return [Case({**good(n).raw, "split": word}, "" if word == "train" else FILTERED, good(n).answer)
                for n, word in enumerate(words)]  # fmt: skip
    if name == "alpaca-only.jsonl":
        return [good(2), Case(good(0).raw, "-other_shape"), good(9), Case(good(5).raw, "-other_shape"), good(16)]
    licences = ("MIT", "CC-BY-NC-4.0", "GPL-3.0", None, "unknown", "MIT", "")
    return [Case({**good(n).raw, "license": word}, "", good(n).answer) for n, word in enumerate(licences)]


# Lines that only bytes can say; each is one line, so that each is one row.
LINES: tuple[Case, ...] = (
    Case(b'{"text": ', "-invalid_json"),
    Case(b'{"text": "never closed', "-invalid_json"),
    Case(b'{"text": "one"} {"text": "two"}', "-invalid_json"),
    Case(b'{"text": "a comma",}', "-invalid_json"),
    Case(b"{'text': 'python'}", "-invalid_json"),
    Case(b"text: yaml", "-invalid_json"),
    Case(b'{"text": "bad escape \\x41"}', "-invalid_json"),
    Case(b'{"text": "cut escape \\u12"}', "-invalid_json"),
    Case(b"\x00\x00\x00", "-invalid_json"),
    Case(b'{"text": "deep", "a": ' + b"[" * DEEP + b"]" * DEEP + b"}", "", "deep"),
    Case(b"[" * DEEP, "-invalid_json"),
    Case(b'{"text": "not a number", "a": NaN}', "", "not a number"),
    Case(b'{"text": "without end", "a": [Infinity, -Infinity, 1e999]}', "", "without end"),
    Case(b'{"text": "five thousand digits beside it", "n": ' + b"7" * 5_000 + b"}", "", "five thousand digits beside it"),
    Case(b'{"text": "first", "text": "the last key wins"}', "", "the last key wins"),
    Case(b'{"text": "raw\ttab"}', "+lenient_json", "raw\ttab"),
    Case(b'{"text": "raw\rreturn"}', "+lenient_json", "raw\rreturn"),
    Case(b'{"text": "raw\x01control"}', "+control_characters+lenient_json", "rawcontrol"),
    Case(b'{"text": "latin \xe9"}', "-invalid_encoding"),
    Case('{"text": "日本 in another encoding"}'.encode("shift_jis"), "-invalid_encoding"),
    Case(b'{"text": "overlong \xc0\x80"}', "-invalid_encoding"),
    Case(b'{"text": "a surrogate \xed\xa0\xbd"}', "-invalid_encoding"),
    Case(b"\xff\xfe\xfd", "-invalid_encoding"),
    Case(b'  {"text": "leading and trailing spaces"}  ', "", "leading and trailing spaces"),
    Case(JSON({"text": "x" * 1_000_000}).encode(), "", "x" * 1_000_000),
    Case(JSON({"prompt": "long?", "completion": "word " * 200_000}).encode(), "", "word " * 200_000),
)
_CUT = (Case(b'{"text": "raw', "-invalid_json"), Case(b'newline"}', "-invalid_json"))


def _lines() -> Iterable[File]:
    every = [*among(LINES), *_CUT, good(90)]
    yield "lines.jsonl", _joined(every), every
    # A return is a blank in JSON, so that lines of other systems lose nothing; as an end of line by itself it is none.
    plain = [case for case in every if case.raw != b'{"text": "raw\rreturn"}']
    yield "lines-crlf.jsonl", _joined(plain, b"\r\n"), plain
    yield "lines-in.json", _joined(every), every
    blank = [good(0), good(1), good(2)]
    yield "blank-lines.jsonl", b"\n \n\r\n" + _joined(blank, b"\n\n\t\n  \r\n"), blank
    yield "no-last-newline.jsonl", _joined(blank).rstrip(), blank
    cut = [*blank, Case(JSON(good(3).raw).encode()[:-9], "-invalid_json")]
    yield "cut.jsonl", _joined(cut).rstrip(b"\n"), cut
    yield "junk-head.jsonl", b"# a comment\n" + _joined(blank), [Case(None, "-invalid_json"), *blank]


def _arrays() -> Iterable[File]:
    # What breaks an array's framing by itself (an open string, two values without a comma) has files of its own.
    framed = [LINES[i] for i in (3, 4, 6, 7, *range(11, len(LINES)))]
    rows = among([*framed, Case(b'{"text": "raw\nnewline"}', "+lenient_json", "raw\nnewline")])
    yield "broken-elements.json", _array(rows), rows
    yield "broken-elements-data.json", b'{"data": ' + _array(rows) + b"}", rows
    ten = [good(n) for n in range(10)]
    yield "cut-in-element.json", _array(ten)[:-20], [*ten[:9], Case(None, "-invalid_json")]
    yield "trailing-comma.json", _array(ten)[:-1] + b",\n]", ten
    broken = [*ten[:4], Case(b'{"text": }', "-invalid_json"), *ten[4:]]
    yield "broken-middle.json", _array(broken), broken
    numbers = [Case(n, "-not_an_object") for n in (1, -2.5)]
    yield "scalars.json", _array([*ten[:2], *numbers, *ten[2:4]]), [*ten[:2], *numbers, *ten[2:4]]
    yield "number.json", b"42\n", [Case(None, "-not_an_object")]


def _encodings() -> Iterable[File]:
    def said(text: str) -> Callable[[int], Case]:
        return lambda n: Case({"instruction": f"{text} {n}?", "output": f"{text} {n}."}, "", f"{text} {n}.")

    def rows(text: str, *bad: Case) -> list[Case]:
        return among([Case(said(text)(0).raw, "-duplicate"), *bad], said(text))

    def spoken(cases: Sequence[Case], encoding: str) -> bytes:
        return b"".join(
            c.raw + b"\n" if isinstance(c.raw, bytes) else (json.dumps(c.raw, ensure_ascii=False) + "\n").encode(encoding)
            for c in cases
        )

    euro, wave, both = rows("café — 5 €"), rows("日本語の波"), rows("wave 🌊 波 é")
    bad = rows("naïve", Case(b'{"text": "undefined \x81 here"}', "-invalid_encoding"))
    half = rows("波", Case(b'{"text": "half \x93 "}', "-invalid_encoding"))
    yield "cp1252.jsonl", spoken(bad, "cp1252"), bad
    yield "cp1252.json", json.dumps([case.raw for case in euro], ensure_ascii=False).encode("cp1252"), euro
    yield "shift_jis.jsonl", spoken(half, "shift_jis"), half
    for bom, encoding in (("", "utf-8"), ("\ufeff", "utf-8"), ("\ufeff", "utf-16-le"), ("\ufeff", "utf-16-be")):
        name = f"{encoding}{'-bom' * bool(bom)}"
        array = bom + json.dumps([case.raw for case in both], ensure_ascii=False, indent=1)
        yield f"{name}.jsonl", bom.encode(encoding) + spoken(both, encoding), both
        yield f"{name}.json", array.encode(encoding), both
        table = bom + _table(["instruction", "output"], [[c.raw["instruction"], c.raw["output"]] for c in wave])
        yield f"{name}.csv", table.encode(encoding), wave
    yield "utf-16-declared.jsonl", spoken(both, "utf-16-le"), both
    broken = rows("波", Case('{"text": '.encode("utf-16-le") + b"\n\0", "-invalid_json"))
    content = "\ufeff".encode("utf-16-le") + b"".join(
        c.raw if isinstance(c.raw, bytes) else (json.dumps(c.raw, ensure_ascii=False) + "\n").encode("utf-16-le")
        for c in broken
    )
    yield "utf-16-broken-line.jsonl", content, broken
    yield "cp1252.csv", _table(["instruction", "output"], [list(c.raw.values()) for c in euro], ";").encode("cp1252"), euro
    packed = _table(["instruction", "output"], [list(c.raw.values()) for c in wave]).encode("shift_jis")
    yield "shift_jis.csv.gz", gzip.compress(packed, mtime=0), wave


# Tables -------------------------------------------------------------------------------------------------------------------


def _table(head: Sequence[str], rows: Iterable[Sequence[str] | str], sep: str = ",", end: str = "\n") -> str:
    """Return a table as text; a row that is a string stands as it is."""
    out = io.StringIO()
    for row in (head, *rows):
        out.write(row + end) if isinstance(row, str) else csv.writer(out, delimiter=sep, lineterminator=end).writerow(row)
    return out.getvalue()


def _cells(n: int) -> Case:
    return Case([f"Question {n}?", "", f"Answer {n}."], "", f"Answer {n}.")


CELLS: tuple[Case, ...] = (
    Case(["A comma, quoted", 'and "quotes"', 'He said "no", twice.'], "", 'He said "no", twice.'),
    Case(["A line\nin a cell", "", "Two\n\nblank lines\r\nand a return."], "", "Two\n\nblank lines\r\nand a return."),
    Case(["A nul \x00 here", "", "gone"], "+control_characters", "gone"),
    Case(["No answer?", "", ""], "-empty_answer"),
    Case(["Blank?", "", "  "], "-empty_answer"),
    Case(["", "", "To what?"], "-empty_prompt"),
    Case(["Question 0?", "", "Answer 0."], "-duplicate"),
    Case(["Long?", "", "word " * 200_000], "", "word " * 200_000),
    Case("too,few", "-wrong_fields"),
    Case("one,too,many,fields", "-wrong_fields"),
)


def _csv() -> Iterable[File]:
    head = ["instruction", "input", "output"]
    rows = among(CELLS, _cells)
    raw = [case.raw for case in rows]
    fit = [case for case in rows if not isinstance(case.raw, str)]
    yield "cells.csv", _table(head, raw).encode(), rows
    yield "cells-crlf.csv", _table(head, raw, end="\r\n").encode(), rows
    yield "cells.tsv", _table(head, [r.replace(",", "\t") if isinstance(r, str) else r for r in raw], "\t").encode(), rows
    yield "semicolons.csv", _table(head, [case.raw for case in fit], ";").encode(), fit
    open_quote = Case('An open "quote,,"never closed', "-invalid_csv")
    for name, after in (
        ("plain", [_cells(8), _cells(9)]),
        ("quoted", [Case(["Quoted, later", "", 'an "answer"'], "", 'an "answer"')]),
    ):
        broken = [_cells(0), _cells(1), open_quote, *after]
        yield f"open-quote-{name}.csv", _table(head, [case.raw for case in broken]).encode(), broken
    latin = _table(head, [_cells(0).raw, _cells(1).raw]).encode() + b"caf\xe9?,,yes\n" + _table(_cells(2).raw, []).encode()
    yield "latin-row.csv", latin, [_cells(0), _cells(1), Case(None, "-invalid_encoding"), _cells(2)]
    talk = [Case([JSON(_talk(f"{n}?", f"{n}."))], "", f"{n}.") for n in range(3)]
    bad = [talk[0], Case(["[{not json"], "-wrong_type"), talk[1], Case(["7"], "-wrong_type"), talk[2]]
    yield "messages.csv", _table(["messages"], [case.raw for case in bad]).encode(), bad
    mixed, names = [good(n) for n in range(14)], sorted({key for n in range(7) for key in good(n).raw})
    texts = [{key: value if isinstance(value, str) else JSON(value) for key, value in case.raw.items()} for case in mixed]
    yield "shapes.csv", _table(names, [[text.get(name, "") for name in names] for text in texts]).encode(), mixed
    words = ("MIT", "CC-BY-NC-4.0", "GPL-3.0", "", "unknown")
    yield (
        "licences.csv",
        _table([*head, "license"], [[*_cells(n).raw, word] for n, word in enumerate(words)]).encode(),
        [_cells(n) for n in range(len(words))],
    )
    pairs = [Case([f"Was {n}?", f"Das {n}."], "", f"Das {n}.") for n in range(3)]
    yield "columns.csv", _table(["Frage", "Antwort"], [case.raw for case in pairs]).encode(), pairs
    three = [_cells(n) for n in range(3)]
    yield "blank-lines.csv", _table(head, [three[0].raw, "", three[1].raw, "", "", three[2].raw, ""]).encode(), three
    yield "no-last-newline.csv", _table(head, [case.raw for case in three]).encode().rstrip(), three
    yield "cut-in-quote.csv", _table(head, [case.raw for case in three]).encode() + b'Cut?,,"in the mid', [
        *three, Case(None, "-invalid_csv"),
    ]  # fmt: skip


# Compressed ---------------------------------------------------------------------------------------------------------------


def _gz(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def _zst(content: bytes) -> bytes:
    return bytes(pa.compress(content, codec="zstd", asbytes=True))


def _rest(content: bytes, cases: Sequence[Case]) -> list[Case]:
    """Return the cases whose lines are complete in what is left of a stream, and one for what is lost."""
    return [*cases[: content.count(b"\n")], Case(None, "-truncated_file")]


def _noise(n: int) -> list[Case]:
    """Return rows that hardly compress, so that a cut stream loses whole blocks."""
    state, out = 1, []
    for i in range(n):
        words = []
        for _ in range(40):
            state = state * 6364136223846793005 + 1442695040888963407 & (1 << 64) - 1
            words.append(f"{state >> 16:012x}")
        out.append(Case({"prompt": f"Noise {i}?", "completion": " ".join(words)}, "", " ".join(words)))
    return out


def _compressed() -> Iterable[File]:
    rows, lines = _every_row(), among(LINES)
    cells = among(CELLS, _cells)
    table = _table(["instruction", "input", "output"], [case.raw for case in cells]).encode()
    noise = _noise(600)
    stream = _joined(noise)
    for ending, pack in ((".gz", _gz), (".zst", _zst)):
        yield f"rows.jsonl{ending}", pack(_joined(rows)), rows
        yield f"rows.json{ending}", pack(_array(rows)), rows
        yield f"lines.jsonl{ending}", pack(_joined(lines)), lines
        yield f"cells.csv{ending}", pack(table), cells
        parts = pack(_joined(noise[:9])) + pack(b"") + pack(_joined(noise[9:20]))
        yield f"members.jsonl{ending}", parts, noise[:20]
        yield f"empty.jsonl{ending}", pack(b""), []
        yield f"plain-text.jsonl{ending}", _joined(rows[:5]), rows[:5]
        yield f"no-ending-{ending[1:]}.jsonl", pack(_joined(rows[:5])), rows[:5]
    cut = _gz(stream)[: len(_gz(stream)) // 2]
    yield "cut.jsonl.gz", cut, _rest(zlib.decompressobj(31).decompress(cut), noise)
    yield "cut-head.jsonl.gz", _gz(stream)[:6], [Case(None, "-truncated_file")]
    whole = bytearray(_gz(stream))
    whole[-8] ^= 1  # the check sum alone is wrong: every row is there
    yield "wrong-sum.jsonl.gz", bytes(whole), [*noise, Case(None, "-truncated_file")]
    stored = bytearray(gzip.compress(stream, 0, mtime=0))
    readable = _damage(stored)
    yield "damaged.jsonl.gz", bytes(stored), _rest(readable, noise)
    cut = _zst(stream)[: len(_zst(stream)) * 3 // 4]
    yield "cut.jsonl.zst", cut, _rest(_readable_zst(cut), noise)
    yield "cut-head.jsonl.zst", _zst(stream)[:6], [Case(None, "-truncated_file")]
    ten = _noise(10)
    yield "cut-member.jsonl.gz", _gz(_joined(ten)) + _gz(stream)[:7], [*ten, Case(None, "-truncated_file")]


def _damage(stored: bytearray) -> bytes:
    """Break the header of a stored block in the middle and return what can be read before it."""
    at = 10 + 5 + int.from_bytes(stored[11:13], "little")
    stored[at + 1 : at + 5] = b"\x12\x34\x56\x78"
    return bytes(stored[15:at])


def _readable_zst(cut: bytes) -> bytes:
    """Return what a stream gives before its end, byte by byte, as whole blocks come."""
    stream, out = pa.CompressedInputStream(pa.BufferReader(cut), "zstd"), b""
    try:
        while piece := stream.read(1):
            out += piece
    except OSError:
        pass
    return out


# Parquet ------------------------------------------------------------------------------------------------------------------


def _pack(table: pa.Table, **options: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()


def _columns(cases: Sequence[Case]) -> pa.Table:
    return pa.Table.from_pylist([case.raw for case in cases])


def _bytes_as_text(texts: Sequence[bytes]) -> pa.Array:
    return pa.Array.from_buffers(pa.binary(), len(texts), pa.array(texts).buffers()).view(pa.string())


def _parquet() -> Iterable[File]:
    three = [good(0), good(7), good(14)]  # of one shape
    content = _pack(_columns(three))
    yield "structs.parquet", content, three
    yield "structs.parquet.gz", _gz(content), three
    yield "structs.parquet.zst", _zst(content), three
    talks = [[JSON(c.raw["messages"])] for c in three]
    broken = [three[0], Case(None, "-wrong_type"), *three[1:]]
    yield "json-text.parquet", _pack(pa.table({"messages": [talks[0][0], "[not json", talks[1][0], talks[2][0]]})), broken
    mixed = [good(n) for n in range(14)]
    names = {key for case in mixed for key in case.raw}
    full = [{name: case.raw.get(name) for name in sorted(names)} for case in mixed]
    yield "shapes.parquet", _pack(pa.Table.from_pylist(full), row_group_size=3), mixed
    alpaca = pa.table({
        "instruction": ["Question 0?", "No answer?", "", None, "Copy?", "Copy?", None, "Question 1?", "Ctrl\x01?"],
        "input": ["", None, None, "Only input.", None, None, None, "", None],
        "output": ["Answer 0.", None, "To what?", "Fine.", "Yes.", "Yes.", None, "Answer 1.", "Gone."],
    })  # fmt: skip
    verdicts = ["", "-empty_answer", "-empty_prompt", "", "", "-duplicate", "-unknown_shape", "", "+control_characters"]
    fates = [
        Case(None, v, a.as_py() if not v.startswith("-") else None) for v, a in zip(verdicts, alpaca["output"], strict=True)
    ]
    yield "nulls.parquet", _pack(alpaca), fates
    dictionary = alpaca.set_column(2, "output", alpaca["output"].combine_chunks().dictionary_encode())
    large = alpaca.cast(pa.schema([(name, pa.large_string()) for name in alpaca.column_names]))
    yield "dictionary.parquet", _pack(dictionary), fates
    yield "large.parquet", _pack(large, compression="zstd"), fates
    texts = [f"text {i}".encode() for i in range(5)]
    texts[2] = b"caf\xe9"
    wrong = [Case(None, "-invalid_encoding") if i == 2 else Case(None, "", f"text {i}") for i in range(5)]
    yield "invalid-text.parquet", _pack(pa.table({"text": _bytes_as_text(texts)})), wrong
    yield "numbers.parquet", _pack(pa.table({"text": [1, 2]})), [Case(None, "-wrong_type")] * 2
    yield "binary.parquet", _pack(pa.table({"text": pa.array([b"a", b"b"])})), [Case(None, "-wrong_type")] * 2
    yield "columns.parquet", _pack(pa.table({"body": ["one", None, "two"]})), [
        Case(None, "", "one"), Case(None, "-unknown_shape"), Case(None, "", "two"),
    ]  # fmt: skip
    tools = [{"messages": _USE, "tools": _TOOLS}, {"messages": [{"role": "user", "content": "3 x 3?"}, _THINK], "tools": None}]
    yield "tools.parquet", _pack(pa.Table.from_pylist(tools)), [Case(None, "", "Twelve metres."), Case(None, "", "Nine.")]
    lost = [Case(None, "-unreadable_file")]
    yield "cut.parquet", content[: len(content) // 2], lost
    yield "wrong-footer.parquet", content[:-30] + b"\x7f" * 22 + content[-8:], lost
    yield "wrong-magic.parquet", content[:-4] + b"RAP1", lost
    yield "not.parquet", _joined(three), lost
    yield "zero-bytes.parquet", b"", lost
    yield "no-rows.parquet", _pack(pa.table({"text": pa.array([], pa.string())})), []
    groups = _noise(40)
    blob = bytearray(_pack(_columns(groups), row_group_size=10, compression="none", use_dictionary=False))
    third = pq.ParquetFile(io.BytesIO(bytes(blob))).metadata.row_group(2).column(0).data_page_offset
    blob[third : third + 40] = b"\xff" * 40
    yield "damaged-group.parquet", bytes(blob), [*groups[:20], Case(None, "-unreadable_file"), *groups[30:]]


# Nothing ------------------------------------------------------------------------------------------------------------------


def _empty() -> Iterable[File]:
    for ending in (".jsonl", ".ndjson", ".json", ".csv", ".tsv"):
        yield f"empty{ending}", b"", []
        yield f"bom-alone{ending}", b"\xef\xbb\xbf", []
        yield f"blank{ending}", b"\n \n\r\n\t\n" if ending != ".tsv" else b"\n\r\n\n", []
    yield "bom-16-alone.jsonl", b"\xff\xfe", []
    yield "empty-array.json", b" [ ]\n", []
    yield "empty-data.json", b'{"data": []}', []
    yield "header-alone.csv", b"instruction,input,output\n", []
    yield "header-alone.tsv", b"\xef\xbb\xbfinstruction\toutput", []


if __name__ == "__main__":
    for label in write(Path(sys.argv[1])):
        print(label.file, label.row, label.fate, label.reason, sep="\t")
