"""What trainers draw of an export: their own packages against our rules, row for row.

    python benchmarks/trainer_formats.py --venvs FOLDER

makes one environment per trainer under FOLDER (uv, or what already lies there) and lets every package load the very config that
was exported. By rows the order must be the same; by weights too, but for ms-swift and streaming, which shuffle while they
mix: there the same rows as often. ``--quick`` compares only what is importable here. open-instruct is on no index, so it is
not compared.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
from _harness import QUICK, Ratio, tell

from composer import tables
from composer.export import EXPORTERS, Trainer
from composer.spec import rng

PACKAGES = {
    "axolotl": "axolotl==0.19.0", "llama_factory": "llamafactory==0.9.5", "ms_swift": "ms-swift==4.6.0", "oumi": "oumi==0.9",
    "streaming": "mosaicml-streaming==0.13.0",
}  # fmt: skip
SHUFFLES = ("ms_swift", "streaming")
NEVER = ("torchvision", "torchaudio", "torchcodec", "triton", "bitsandbytes", "xformers", "flash-attn", "deepspeed")
"""What trainers ask for and the mixing of rows does not need; the builds on an index are for CUDA."""

N = 60 if QUICK else 1_000


def main() -> None:
    """Compare every trainer whose package is here."""
    venvs = Path(sys.argv[sys.argv.index("--venvs") + 1]).resolve() if "--venvs" in sys.argv else None
    pythons = {"trl": Path(sys.executable)} | ({name: _python(venvs / name, name) for name in PACKAGES} if venvs else {})
    found: list[Ratio] = []
    with tempfile.TemporaryDirectory() as scratch:
        tables_ = _mix(Path(scratch))
        for name, python in pythons.items():
            for carry in ("rows", "weights") if name != "axolotl" else ("rows",):
                same, n = _compare(name, carry, python, tables_, Path(scratch) / carry)
                found.append(Ratio(f"{name} by {carry}: share of rows drawn as the package does", same, 1.0, "higher", n))
                print(found[-1], file=sys.stderr, flush=True)
    sizes = {"rows": N, "packages": ["trl (installed)", *(PACKAGES[name] for name in pythons if name != "trl")]}
    tell("trainer_formats", found, equal=all(each.ratio == 1 for each in found), sizes=sizes)


def _compare(name: str, carry: str, python: Path, tables_: tuple[Path, Path], folder: Path) -> tuple[float, int]:
    """Return the share of rows that both sides have, and how many the package has."""
    exporter = EXPORTERS[name](carry=carry, **({"shard_bytes": 20_000} if name == "streaming" else {}))
    assert isinstance(exporter, Trainer)
    exporter.write(*tables_, folder)
    home = folder / exporter.home
    ours, theirs = _ours(exporter, home, tables_, folder), _theirs(name, python, home)
    if carry == "weights" and name in SHUFFLES:
        both = sum((Counter(ours) & Counter(theirs)).values())
    else:
        both = sum(a == b for a, b in zip(ours, theirs, strict=False))
    return both / max(len(ours), len(theirs)), len(theirs)


def _ours(exporter: Trainer, home: Path, tables_: tuple[Path, Path], folder: Path) -> list[str]:
    """Return the first texts of the rows that our rule draws."""
    rows = exporter.rows(*tables_, folder)
    texts = {
        part.path: [turns[0]["content"] for group in rows.groups(domain=part.domain, once=part.domain is not None)
                    for turns in group["messages"]]
        for part in exporter.parts(rows.domains, rows.distinct)
    }  # fmt: skip
    drawn = exporter.drawn(home, {path: len(each) for path, each in texts.items()})
    joined = [text for path in drawn.files for text in texts[path]]
    return [joined[i] for i in drawn.numbers]


def _theirs(name: str, python: Path, home: Path) -> list[str]:
    side = Path(__file__).with_name("_trainer_sides.py")
    offline = {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HOME": str(home.parent / "cache")}
    keep = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [python, side, name, home], capture_output=True, text=True, env=keep | offline, cwd=home.parent, check=False
    )
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr[-3000:]}")
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


def _python(venv: Path, name: str) -> Path:
    """Return the Python of a trainer's environment, which is made where it is not there."""
    python = venv / "bin" / "python"
    if python.exists():
        return python
    uv = shutil.which("uv") or sys.exit("uv makes the environments: pip install uv")
    venv.mkdir(parents=True, exist_ok=True)
    overrides = venv / "overrides.txt"
    overrides.write_text("".join(f'{each} ; sys_platform == "never"\n' for each in NEVER))
    subprocess.run([uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, venv], check=True)
    install = [uv, "pip", "install", "--quiet", "--python", python, "--override", overrides, PACKAGES[name]]
    subprocess.run([*install, *_torch()], check=True)
    return python


def _torch() -> list[str]:
    """Return what keeps torch at the build that is installed here, so that none for CUDA is fetched."""
    import torch

    links = os.environ.get("PIP_FIND_LINKS")
    return ["--find-links", links, f"torch=={torch.__version__}"] if links else []


def _mix(folder: Path) -> tuple[Path, Path]:
    """Write samples of four domains and a composition that repeats some of them; return both tables."""
    dice = rng(7, "trainer formats")
    domains = [("law", "code", "news", "law")[i % 4] for i in range(N)]
    talks = [[{"role": "user", "content": f"ask {i}"}, {"role": "assistant", "content": f"say {i}"}] for i in range(N)]
    sizes = dice.integers(5, 200, N)
    filled: dict[str, Any] = {
        "sample_id": [f"{i:016x}" for i in range(N)], "source": domains, "domain": domains, "role": ["target"] * N,
        "instruction_id": [f"{i:016x}" for i in range(N)], "messages": talks, "n_tokens": sizes + 5, "n_loss_tokens": sizes,
        "license": ["MIT"] * N, "source_revision": ["1"] * N, "extras": [None] * N,
    }  # fmt: skip
    pool = pl.DataFrame(filled, schema=pl.Schema(tables.SAMPLE), strict=False)
    news = [i for i in range(N) if domains[i] == "news"]
    code = [i for i in range(N) if domains[i] == "code"]
    order = dice.permutation([*range(N), *news, *code[: len(code) // 3]])
    rows = pool[order.tolist()].select(
        pl.int_range(pl.len(), dtype=pl.UInt64).alias("position"), pl.int_range(pl.len(), dtype=pl.UInt32).alias("rank"),
        pl.Series("row", order, dtype=pl.UInt32), "sample_id", "source", "domain", pl.lit(0, pl.UInt32).alias("phase"),
        pl.lit(0, pl.UInt32).alias("repeat"), pl.lit(False).alias("is_replay"), "n_tokens", "n_loss_tokens",
    )  # fmt: skip
    paths = folder / "composition.parquet", folder / "samples.parquet"
    rows.write_parquet(paths[0])
    pool.write_parquet(paths[1])
    return paths


if __name__ == "__main__":
    main()
