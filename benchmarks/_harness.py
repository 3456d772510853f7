"""The one shape of a benchmark: sides in turns, outputs compared, medians of ratios, one line of JSON at the end.

Two ways to measure. :func:`compare` runs two sides in this process and takes CPU seconds, where wall time is noise and memory
is not the question. :func:`race` runs every side in a fresh process of its own, and takes CPU seconds (with all threads and
children), wall seconds and peak memory (resident, children included), where one side's caches and threads must not help or
hinder another.

With ``--cuda`` the scripts that know it put their work on a GPU; its results stand under a name of their own.

The last line has name, ratio (ours over theirs), target, better, equal, n, sizes, machine; a script of several ratios has them
all under ``ratios``, the first one at the top. Where the outputs differ it says ``equal: false`` and gives no ratio.
"""

from __future__ import annotations

import importlib
import json
import mmap
import multiprocessing
import os
import platform
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import psutil

QUICK = "--quick" in sys.argv
LARGE = "--large" in sys.argv
LONG = "--long" in sys.argv
DEVICE = "cuda" if "--cuda" in sys.argv else "cpu"
WARM = (256 if QUICK else 2048) << 20  # bytes

Better = Literal["lower", "higher"]
Same = Callable[[Any, Any], bool]


@dataclass(frozen=True)
class Cost:
    """What one run of a side took: CPU seconds, wall seconds, and peak memory in MB (10^6 bytes)."""

    cpu: float
    wall: float
    peak: float


@dataclass(frozen=True)
class Ratio:
    """One claim: a measured ratio (or figure) against its target, over n runs."""

    name: str
    ratio: float
    target: float
    better: Better
    n: int


@dataclass(frozen=True)
class Race:
    """The costs of every side, turn by turn, and whether all outputs were the same."""

    costs: Mapping[str, Sequence[Cost]]
    equal: bool

    def ratio(self, name: str, ours: str, theirs: str, *, of: str = "cpu", target: float, better: Better = "lower") -> Ratio:
        """Return the median over the turns of what ours cost over what theirs did, ``of`` being cpu, wall or peak."""
        turns = zip(self.costs[ours], self.costs[theirs], strict=True)
        values = [getattr(mine, of) / getattr(other, of) for mine, other in turns]
        return Ratio(name, statistics.median(values), target, better, len(values))

    def worst(self, name: str, ours: str, *, of: str = "peak", target: float) -> Ratio:
        """Return the largest cost of a side as a figure of its own: a bound, such as MB of memory."""
        values = [getattr(cost, of) for cost in self.costs[ours]]
        return Ratio(name, max(values), target, "lower", len(values))

    def medians(self) -> dict[str, dict[str, float]]:
        """Return the median costs of every side, to be shown beside the ratios."""
        return {
            side: {of: round(statistics.median(getattr(cost, of) for cost in costs), 3) for of in ("cpu", "wall", "peak")}
            for side, costs in self.costs.items()
        }


def race(
    label: str,
    sides: Mapping[str, Callable[[], Any]],
    *,
    same: Same,
    repeats: int = 3,
    imports: Mapping[str, Sequence[str]] | None = None,
) -> Race:
    """Run the sides in turns, each run in a fresh process, and compare every output with the first side's.

    A side is a function of a module, or a ``functools.partial`` of one, and what it returns is small (a digest, a path): both
    travel between processes. A script that races guards its main part by ``if __name__ == "__main__"``. What the script imports
    is there before the clock starts; ``imports`` names, side by side, modules that only one side needs.
    """
    costs: dict[str, list[Cost]] = {side: [] for side in sides}
    equal = True
    for i in range(1 if QUICK else repeats):
        results = []
        for side, work in sides.items():
            cost, result = alone(work, imports=(imports or {}).get(side, ()))
            costs[side].append(cost)
            results.append(result)
            shown = f"{cost.cpu:.2f} s CPU, {cost.wall:.2f} s wall, {cost.peak:.0f} MB"
            print(f"{label} {i + 1}: {side} {shown}", file=sys.stderr, flush=True)
        equal = equal and all(same(results[0], result) for result in results[1:])
    return Race(costs, equal)


def alone(work: Callable[[], Any], *, imports: Sequence[str] = ()) -> tuple[Cost, Any]:
    """Run a function in a fresh process; return what the run cost, without imports, and the function's result."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    child = context.Process(target=_timed, args=(work, there, tuple(imports)))
    child.start()
    there.close()
    watch = _Watch(child.pid or 0)
    try:
        here.recv()
        _find_memory()
        here.send(None)
        cpu, wall, own_peak, result = here.recv()
    except EOFError:
        raise SystemExit(f"{work} ended without a result") from None
    finally:
        sampled = watch.end()
        child.join()
    return Cost(cpu, wall, max(own_peak, sampled) / 1e6), result


def _timed(work: Callable[[], Any], parent: Connection, imports: Sequence[str]) -> None:
    for name in imports:
        importlib.import_module(name)
    parent.send(None)
    parent.recv()
    cpu, wall = _cpu(), time.perf_counter()
    result = work()
    parent.send((_cpu() - cpu, time.perf_counter() - wall, _own_peak(), result))


def _find_memory() -> None:
    """Touch memory and give it back: a virtual machine lends out what lies idle, and who asks first waits for its return."""
    if hasattr(mmap, "MAP_POPULATE"):
        mmap.mmap(-1, WARM, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE).close()


def _cpu() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def _own_peak() -> int:
    """Return the peak resident bytes of this process (ru_maxrss would count what the parent held when it forked)."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM"))


class _Watch:
    """A thread that samples the resident memory of a process and its children, and seldom, for to look takes time as well."""

    def __init__(self, pid: int) -> None:
        self._process, self._peak, self._over = psutil.Process(pid), 0, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def end(self) -> int:
        self._over.set()
        self._thread.join()
        return self._peak

    def _look(self) -> None:
        while not self._over.wait(0.25):
            try:
                tree = [self._process, *self._process.children(recursive=True)]
                self._peak = max(self._peak, sum(process.memory_info().rss for process in tree))
            except psutil.Error:  # one ended while it was looked at
                continue


def cpu_seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the CPU seconds of a call, with all its threads, and its result."""
    begun = time.process_time()
    result = work()
    return time.process_time() - begun, result


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds of a call and its result: of CPU time, or with ``--cuda`` of wall time until the GPU has done it."""
    if DEVICE == "cpu":
        return cpu_seconds(work)
    import torch

    torch.cuda.synchronize()
    begun = time.perf_counter()
    result = work()
    torch.cuda.synchronize()
    return time.perf_counter() - begun, result


def compare(
    name: str,
    *,
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    same: Same,
    target: float,
    better: Better,
    sizes: dict[str, Any],
    repeats: int = 5,
) -> None:
    """Run both sides in turns in this process, compare every pair of outputs, and tell the median ratio of their seconds."""
    ratios: list[float] = []
    equal = True
    for i in range(2 if QUICK else repeats):
        theirs_s, their_result = seconds(theirs)
        ours_s, our_result = seconds(ours)
        equal = equal and same(our_result, their_result)
        ratios.append(ours_s / theirs_s)
        print(f"{name} {i + 1}: ours {ours_s:.4f} s, theirs {theirs_s:.4f} s, ratio {ratios[-1]:.4f}", file=sys.stderr)
    tell(name, [Ratio(name, statistics.median(ratios), target, better, len(ratios))], equal=equal, sizes=sizes)


def tell(
    name: str, ratios: Sequence[Ratio], *, equal: bool, sizes: dict[str, Any], costs: Mapping[str, Any] | None = None
) -> None:
    """Print the result as the last line, keep it under ``results`` unless in a hurry, and fail where outputs differed.

    ``costs`` are shown as they are, such as ``{label: race.medians()}``.
    """
    name += "" if DEVICE == "cpu" else f"_{DEVICE}"
    listed = [asdict(each) | {"ratio": round(each.ratio, 5) if equal else None} for each in ratios]
    result = {
        **listed[0],
        "name": name,
        "equal": equal,
        "sizes": sizes,
        "commit": commit(),
        "machine": machine(),
        **({"ratios": listed} if len(listed) > 1 else {}),
        **({"costs": dict(costs)} if costs else {}),
    }
    write_result(name, result)
    print(json.dumps(result))
    if not equal:
        raise SystemExit(1)


def machine() -> str:
    """Return on what a benchmark ran, in words."""
    words = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    if DEVICE == "cpu":
        return words
    import torch

    return f"{words}, {torch.cuda.get_device_name()}, torch {torch.__version__}"


def commit() -> str:
    """Return the commit that is checked out, with ``+`` where code was changed since; ``unknown`` outside of git.

    Eight digits: of longer ones a check for secrets takes some for keys.
    """
    code = ("composer", "flows", "probes", "benchmarks/*.py")
    asked = (["git", "rev-parse", "--short=8", "HEAD"], ["git", "status", "--porcelain", "--untracked-files=no", "--", *code])
    try:
        found, changed = (subprocess.run(each, capture_output=True, text=True, check=True).stdout.strip() for each in asked)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found + ("+" if changed else "")


def write_evidence(name: str, *, control: str, sizes: Mapping[str, Any], tables: Mapping[str, Any], **more: Any) -> None:
    """Keep a comparison of arms with a control: its tables, every run, and the commit and machine that it was made with."""
    told = {"control": control, "sizes": sizes, "commit": commit(), "machine": machine(), "tables": tables, **more}
    write_result(name, {"name": name, "ratios": [], **told})


def write_result(name: str, result: Mapping[str, Any]) -> None:
    """Keep a result under ``results``, unless in a hurry."""
    if not QUICK:
        folder = Path(__file__).parent / "results"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
