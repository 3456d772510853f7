"""Compressed files, whole, in members, cut and damaged, with what can still be read of them."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Sequence

import pyarrow as pa

from tests.messy_files.cases import Case, File, among, as_array, joined
from tests.messy_files.lines import LINES
from tests.messy_files.rows import every_row
from tests.messy_files.tables import CELLS, as_table, table_row


def gz(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def zst(content: bytes) -> bytes:
    return bytes(pa.compress(content, codec="zstd", asbytes=True))


def _rest(content: bytes, cases: Sequence[Case]) -> list[Case]:
    """Return the cases whose lines are complete in what is left of a stream, and one for what is lost."""
    return [*cases[: content.count(b"\n")], Case(None, "-truncated_file")]


def noisy(n: int) -> list[Case]:
    """Return rows that hardly compress, so that a cut stream loses whole blocks."""
    state, out = 1, []
    for i in range(n):
        words = []
        for _ in range(40):
            state = state * 6364136223846793005 + 1442695040888963407 & (1 << 64) - 1
            words.append(f"{state >> 16:012x}")
        out.append(Case({"prompt": f"Noise {i}?", "completion": " ".join(words)}, "", " ".join(words)))
    return out


def files() -> Iterable[File]:
    rows, lines = every_row(), among(LINES)
    cells = among(CELLS, table_row)
    table = as_table(["instruction", "input", "output"], [case.raw for case in cells]).encode()
    noise = noisy(600)
    stream = joined(noise)
    for ending, pack in ((".gz", gz), (".zst", zst)):
        yield f"rows.jsonl{ending}", pack(joined(rows)), rows
        yield f"rows.json{ending}", pack(as_array(rows)), rows
        yield f"lines.jsonl{ending}", pack(joined(lines)), lines
        yield f"cells.csv{ending}", pack(table), cells
        parts = pack(joined(noise[:9])) + pack(b"") + pack(joined(noise[9:20]))
        yield f"members.jsonl{ending}", parts, noise[:20]
        yield f"empty.jsonl{ending}", pack(b""), []
        yield f"plain-text.jsonl{ending}", joined(rows[:5]), rows[:5]
        yield f"no-ending-{ending[1:]}.jsonl", pack(joined(rows[:5])), rows[:5]
    cut = gz(stream)[: len(gz(stream)) // 2]
    yield "cut.jsonl.gz", cut, _rest(zlib.decompressobj(31).decompress(cut), noise)
    yield "cut-head.jsonl.gz", gz(stream)[:6], [Case(None, "-truncated_file")]
    whole = bytearray(gz(stream))
    whole[-8] ^= 1  # the check sum alone is wrong: every row is there
    yield "wrong-sum.jsonl.gz", bytes(whole), [*noise, Case(None, "-truncated_file")]
    stored = bytearray(gzip.compress(stream, 0, mtime=0))
    readable = _damage(stored)
    yield "damaged.jsonl.gz", bytes(stored), _rest(readable, noise)
    cut = zst(stream)[: len(zst(stream)) * 3 // 4]
    yield "cut.jsonl.zst", cut, _rest(_readable_zst(cut), noise)
    yield "cut-head.jsonl.zst", zst(stream)[:6], [Case(None, "-truncated_file")]
    ten = noisy(10)
    yield "cut-member.jsonl.gz", gz(joined(ten)) + gz(stream)[:7], [*ten, Case(None, "-truncated_file")]


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
