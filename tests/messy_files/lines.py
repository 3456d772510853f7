"""Lines that only bytes can say, arrays that break, and files of JSON that are cut."""

from __future__ import annotations

from collections.abc import Iterable

from tests.messy_files.cases import JSON, Case, File, among, as_array, good, joined

DEEP = 10_000

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


def files() -> Iterable[File]:
    yield from _lines()
    yield from _arrays()


def _lines() -> Iterable[File]:
    every = [*among(LINES), *_CUT, good(90)]
    yield "lines.jsonl", joined(every), every
    # A return is a blank in JSON, so that lines of other systems lose nothing; as an end of line by itself it is none.
    plain = [case for case in every if case.raw != b'{"text": "raw\rreturn"}']
    yield "lines-crlf.jsonl", joined(plain, b"\r\n"), plain
    yield "lines-in.json", joined(every), every
    blank = [good(0), good(1), good(2)]
    yield "blank-lines.jsonl", b"\n \n\r\n" + joined(blank, b"\n\n\t\n  \r\n"), blank
    yield "no-last-newline.jsonl", joined(blank).rstrip(), blank
    cut = [*blank, Case(JSON(good(3).raw).encode()[:-9], "-invalid_json")]
    yield "cut.jsonl", joined(cut).rstrip(b"\n"), cut
    yield "junk-head.jsonl", b"# a comment\n" + joined(blank), [Case(None, "-invalid_json"), *blank]


def _arrays() -> Iterable[File]:
    # What breaks an array's framing by itself (an open string, two values without a comma) has files of its own.
    framed = [LINES[i] for i in (3, 4, 6, 7, *range(11, len(LINES)))]
    rows = among([*framed, Case(b'{"text": "raw\nnewline"}', "+lenient_json", "raw\nnewline")])
    yield "broken-elements.json", as_array(rows), rows
    yield "broken-elements-data.json", b'{"data": ' + as_array(rows) + b"}", rows
    ten = [good(n) for n in range(10)]
    yield "cut-in-element.json", as_array(ten)[:-20], [*ten[:9], Case(None, "-invalid_json")]
    yield "trailing-comma.json", as_array(ten)[:-1] + b",\n]", ten
    broken = [*ten[:4], Case(b'{"text": }', "-invalid_json"), *ten[4:]]
    yield "broken-middle.json", as_array(broken), broken
    numbers = [Case(n, "-not_an_object") for n in (1, -2.5)]
    yield "scalars.json", as_array([*ten[:2], *numbers, *ten[2:4]]), [*ten[:2], *numbers, *ten[2:4]]
    yield "number.json", b"42\n", [Case(None, "-not_an_object")]
