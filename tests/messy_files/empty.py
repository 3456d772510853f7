"""Files with nothing in them: no bytes, a mark alone, blanks, an empty array, a header."""

from __future__ import annotations

from collections.abc import Iterable

from tests.messy_files.cases import File


def files() -> Iterable[File]:
    for ending in (".jsonl", ".ndjson", ".json", ".csv", ".tsv"):
        yield f"empty{ending}", b"", []
        yield f"bom-alone{ending}", b"\xef\xbb\xbf", []
        yield f"blank{ending}", b"\n \n\r\n\t\n" if ending != ".tsv" else b"\n\r\n\n", []
    yield "bom-16-alone.jsonl", b"\xff\xfe", []
    yield "empty-array.json", b" [ ]\n", []
    yield "empty-data.json", b'{"data": []}', []
    yield "header-alone.csv", b"instruction,input,output\n", []
    yield "header-alone.tsv", b"\xef\xbb\xbfinstruction\toutput", []
