"""The rates of ``flows/scale/rates.yaml``, taken from what the benchmarks measured; ``generate.py`` writes the file.

A rate of a stage is what the larger of two sizes cost beyond the smaller one, over what it had more, so that starting up is no
part of it. What no benchmark measured says so in its ``kind``, and why.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import log
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"
HEAD = "# Written by docs/generate.py (docs/measured.py) from benchmarks/results. Core seconds are CPU seconds of one core.\n"
MB = 1e6
STAGES = {  # of a stage: the rates by name, what each is of, and of how much (a size of the benchmark)
    "pool": {"seconds": ("cpu", "text bytes"), "disk": ("bytes", "text bytes")},
    "embed": {"lexical": ("cpu", "instruction bytes"), "lexical.memory": ("peak", "instruction bytes")},
    "answers": {"seconds": ("cpu", "rows"), "memory": ("peak", "rows"), "disk": ("bytes", "rows")},
    "tag": {
        "seconds": ("cpu", "instruction bytes"),
        "memory": ("peak", "instruction bytes"),
        "disk": ("bytes", "instructions"),
    },
    "score": {"memory": ("peak", "instructions"), "disk": ("bytes", "instructions")},
    "compose": {"disk": ("bytes", "rows")},
    "export": {"seconds": ("cpu", "text bytes"), "disk": ("bytes", "text bytes")},
}
UNITS = {"cpu": "core seconds", "peak": "bytes of memory", "bytes": "bytes of disk"}
TEN_MILLION, PARAMETERS, GPU_PARAMETERS, TINY = 10_000_000, 5_259_264, 889_192_448, 542_720
TEXT_TOKENS, MINILM, PEAK = 67, 10.6e6, 989e12


def rates() -> dict[str, dict[str, Any]]:
    """Return every rate by name, with its unit and its origin."""
    return dict(sorted([*_of_stages(), *_of_rows(), *_of_models(), *_not_measured()]))


def _result(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return found


def _rate(name: str, value: float, unit: str, source: str, *, kind: str = "measured") -> tuple[str, dict[str, Any]]:
    told = {"value": float(f"{value:.6g}"), "unit": unit, "kind": kind, "source": source}
    return name, told | ({"machine": _result(source.split(":")[0])["machine"]} if kind == "measured" else {})


def _slope(found: dict[str, Any], stage: str, of: str, over: str) -> float:
    few, many = (found["costs"][size][stage][of] for size in ("few", "many"))
    more = found["sizes"]["many"][over] - found["sizes"]["few"][over]
    return max((many - few) * (MB if of == "peak" else 1) / more, 1e-12)


def _of_stages() -> Iterator[tuple[str, dict[str, Any]]]:
    found = _result("stages")
    for stage, told in STAGES.items():
        for rate, (of, over) in told.items():
            value = _slope(found, stage, of, over) * (2 / 3 if (stage, of) == ("score", "bytes") else 1)  # it scores 1.5 times
            yield _rate(f"{stage}.{rate}", value, f"{UNITS[of]} per {over}", "stages: larger less smaller size")
    fewer, more = found["costs"]["pooled"]
    held = (more["peak"] - fewer["peak"]) * MB / (more["rows"] - fewer["rows"])
    yield _rate(
        "pool.memory", held, "bytes of memory per rows", f"stages: pooled, {more['rows']:,} less {fewer['rows']:,} rows"
    )
    read = _result("ingest")
    read_s = read["costs"]["ingest"]["ours"]["cpu"] / read["sizes"]["bytes"]
    counted = _slope(found, "ingest", "cpu", "text bytes") - read_s
    yield _rate("ingest.count", counted, "core seconds per text byte", "stages: ingest, less ingest.read")
    yield _rate("ingest.disk", _slope(found, "ingest", "bytes", "text bytes"), "bytes of disk per text byte", "stages")
    yield _rate("read.seconds", _slope(found, "reading", "cpu", "text bytes"), "core seconds per text byte", "stages: reading")
    memory = _slope(found, "reading", "peak", "text bytes")
    yield _rate("read.memory", memory, "bytes of memory per text byte", "stages: reading")
    yield _rate("process.memory", found["costs"]["few"]["ingest"]["peak"] * MB, "bytes", "stages: ingest, smaller size")


def _of_rows() -> Iterator[tuple[str, dict[str, Any]]]:
    read, plan, written, scored = (_result(name) for name in ("ingest", "allocate", "materialise", "insinfo"))
    yield _rate(
        "ingest.read", read["costs"]["ingest"]["ours"]["cpu"] / read["sizes"]["bytes"], "core seconds per text byte", "ingest"
    )
    peaks = {each["name"]: each["ratio"] for each in read["ratios"]}
    more = (peaks["peak MB at 5,000,000 rows"] - peaks["peak MB"]) * MB / 4_000_000
    yield _rate("ingest.memory", more, "bytes of memory per rows", "ingest: peaks at 5 and 1 million rows")
    figures = {each["name"]: each["ratio"] for each in plan["ratios"]}
    seconds, peak = figures["cpu seconds, 10,000,000 rows"], figures["peak MB, 10,000,000 rows"]
    yield _rate("compose.seconds", seconds / TEN_MILLION, "core seconds per rows", "allocate: 10 million rows")
    yield _rate("compose.memory", peak * MB / TEN_MILLION, "bytes of memory per rows", "allocate: 10 million rows")
    peak = next(each["ratio"] for each in written["ratios"] if each["name"] == "peak MB, 10,000,000 rows")
    yield _rate("export.memory", peak * MB, "bytes of memory", "materialise: bounded, 10 million rows")
    yield _rate(
        "score.seconds",
        scored["costs"]["1,000,000 instructions"]["ours"]["cpu"] / 1e6,
        "core seconds per instructions",
        "insinfo",
    )
    pairs = _result("wasserstein")["costs"]
    yield _rate(
        "compare.sampled",
        pairs["1,000,000 made, sampled, cosine"]["estimate"],
        "core seconds per pair, 2 x 4,300 points",
        "wasserstein",
    )
    yield _rate("compare.points", 4300, "points", "wasserstein")
    power = log(pairs["10,000, uneven"]["ours"] / pairs["2,000, uneven"]["ours"]) / log(5)
    yield _rate("compare.power", power, "power of points", "wasserstein: exact, from 2,000 to 10,000 points")


def _of_models() -> Iterator[tuple[str, dict[str, Any]]]:
    trained = _result("trainer")["costs"]["tokens per CPU second"]
    yield _rate(
        "train.flop", 1 / (6 * PARAMETERS * trained["ours"]), "core seconds per FLOP", "trainer: 5.3 M parameters, packed"
    )
    yield _rate("train.padded", trained["packed"] / trained["padded"], "times the seconds", "trainer: rows padded, over packed")
    wrote = _result("probe_engine")["costs"]["tokens_per_second"]["hf"]
    yield _rate("write.flop", 1 / (2 * TINY * wrote), "core seconds per FLOP", "probe_engine: hf, 0.5 M parameters")
    found = _result("embedding")
    texts = found["costs"]["encode"]["sentences per CPU s"] * found["ratio"]
    source = "embedding: MiniLM, texts of 67 tokens in the mean"
    yield _rate("embed.flop", 1 / (texts * TEXT_TOKENS * 2 * MINILM), "core seconds per FLOP", source)
    source = "docs/LOG.md, 2026-11-27: 0.89 thousand million parameters, 40,960 tokens/s, one H200; not of 64 GPUs, not of 70 B"
    yield _rate("train.mfu", 6 * GPU_PARAMETERS * 40_960 / PEAK, "share of the peak", source, kind="logged")


def _not_measured() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, value, unit, why in (
        ("write.mfu", 0.3, "share of the peak", "no 70 B was run: a writing engine that is bound by its products"),
        ("write.bandwidth", 0.6, "share of the memory's rate", "no 70 B was run: weights are read once for every token"),
        ("read.mfu", 0.4, "share of the peak", "no 70 B was run: a prompt is one long product"),
        ("embed.mfu", 0.1, "share of the peak", "no sentence model was run on a GPU: small products, short texts"),
    ):
        yield _rate(name, value, unit, why, kind="assumed")
    for name, value, unit, why in (
        ("embed.copies", 3, "copies of the vectors", "flows/embedding.py: by text, as a matrix, as a column"),
        ("object.memory", 250, "bytes of an object in Python", "a text or a row of a matrix, and its place in a dict"),
        ("frame.copies", 1, "copies of all text", "flows/inputs.py, samples_of: the whole table is read, then filtered"),
        ("list.copies", 2, "copies of the text that a judge learns from", "as a column, and as a list of texts"),
    ):
        yield _rate(name, value, unit, why, kind="counted")
