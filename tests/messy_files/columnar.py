"""Parquet: columns of every kind, null and wrong, and files that are cut or damaged."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.messy_files.cases import JSON, Case, File, good, joined
from tests.messy_files.packed import gz, noisy, zst
from tests.messy_files.rows import THINKING, TOOLS, USE


def _pack(table: pa.Table, **options: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()


def _columns(cases: Sequence[Case]) -> pa.Table:
    return pa.Table.from_pylist([case.raw for case in cases])


def _bytes_as_text(texts: Sequence[bytes]) -> pa.Array:
    return pa.Array.from_buffers(pa.binary(), len(texts), pa.array(texts).buffers()).view(pa.string())


def files() -> Iterable[File]:
    three = [good(0), good(7), good(14)]  # of one shape
    content = _pack(_columns(three))
    yield "structs.parquet", content, three
    yield "structs.parquet.gz", gz(content), three
    yield "structs.parquet.zst", zst(content), three
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
    tools = [{"messages": USE, "tools": TOOLS}, {"messages": [{"role": "user", "content": "3 x 3?"}, THINKING], "tools": None}]
    yield "tools.parquet", _pack(pa.Table.from_pylist(tools)), [Case(None, "", "Twelve metres."), Case(None, "", "Nine.")]
    lost = [Case(None, "-unreadable_file")]
    yield "cut.parquet", content[: len(content) // 2], lost
    yield "wrong-footer.parquet", content[:-30] + b"\x7f" * 22 + content[-8:], lost
    yield "wrong-magic.parquet", content[:-4] + b"RAP1", lost
    yield "not.parquet", joined(three), lost
    yield "zero-bytes.parquet", b"", lost
    yield "no-rows.parquet", _pack(pa.table({"text": pa.array([], pa.string())})), []
    groups = noisy(40)
    blob = bytearray(_pack(_columns(groups), row_group_size=10, compression="none", use_dictionary=False))
    third = pq.ParquetFile(io.BytesIO(bytes(blob))).metadata.row_group(2).column(0).data_page_offset
    blob[third : third + 40] = b"\xff" * 40
    yield "damaged-group.parquet", bytes(blob), [*groups[:20], Case(None, "-unreadable_file"), *groups[30:]]
