"""The one shape of a benchmark: both sides interleaved in one process, outputs compared, the median of the ratios.

Every script ends with one line of JSON: name, ratio (ours over theirs), target, better, equal, n, sizes, machine. Where the
outputs differ it says ``equal: false`` and gives no ratio. CPU seconds, because wall time is noise on a shared machine.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

QUICK = "--quick" in sys.argv


def cpu_seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the CPU seconds of a call, with all its threads, and its result."""
    begun = time.process_time()
    result = work()
    return time.process_time() - begun, result


def compare(
    name: str,
    *,
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    same: Callable[[Any, Any], bool],
    target: float,
    better: Literal["lower", "higher"],
    sizes: dict[str, Any],
    repeats: int = 5,
) -> None:
    """Run both sides in turns, compare every pair of outputs, and print the result as the last line."""
    ratios: list[float] = []
    equal = True
    for i in range(2 if QUICK else repeats):
        theirs_s, their_result = cpu_seconds(theirs)
        ours_s, our_result = cpu_seconds(ours)
        equal = equal and same(our_result, their_result)
        ratios.append(ours_s / theirs_s)
        print(f"{name} {i + 1}: ours {ours_s:.4f} s, theirs {theirs_s:.4f} s, ratio {ratios[-1]:.4f}", file=sys.stderr)
    result = {
        "name": name,
        "ratio": round(statistics.median(ratios), 5) if equal else None,
        "target": target,
        "better": better,
        "equal": equal,
        "n": len(ratios),
        "sizes": sizes,
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
    }
    if not QUICK:
        folder = Path(__file__).parent / "results"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))
    if not equal:
        raise SystemExit(1)
