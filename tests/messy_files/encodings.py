"""Texts that are not UTF-8, or do not look like it, told or to be found out."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Sequence

from tests.messy_files.cases import Case, File, among
from tests.messy_files.tables import as_table


def files() -> Iterable[File]:
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
        table = bom + as_table(["instruction", "output"], [[c.raw["instruction"], c.raw["output"]] for c in wave])
        yield f"{name}.csv", table.encode(encoding), wave
    yield "utf-16-declared.jsonl", spoken(both, "utf-16-le"), both
    broken = rows("波", Case('{"text": '.encode("utf-16-le") + b"\n\0", "-invalid_json"))
    content = "\ufeff".encode("utf-16-le") + b"".join(
        c.raw if isinstance(c.raw, bytes) else (json.dumps(c.raw, ensure_ascii=False) + "\n").encode("utf-16-le")
        for c in broken
    )
    yield "utf-16-broken-line.jsonl", content, broken
    yield "cp1252.csv", as_table(["instruction", "output"], [list(c.raw.values()) for c in euro], ";").encode("cp1252"), euro
    packed = as_table(["instruction", "output"], [list(c.raw.values()) for c in wave]).encode("shift_jis")
    yield "shift_jis.csv.gz", gzip.compress(packed, mtime=0), wave
