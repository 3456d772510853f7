"""What trainers draw of an export: their own packages against our rules, row for row, and against the plan.

    python benchmarks/trainer_formats.py --venvs FOLDER

makes one environment per trainer under FOLDER (uv, or what already lies there) and lets every package load the very config that
was exported: six domains of real rows mixed by loss tokens, some of them twice. By rows the order must be the same; by weights
too, but for ms-swift and streaming, which shuffle while they mix: there the same rows as often. Of what the package drew the
shares of loss tokens are counted and compared with what was planned, which is what ``prove`` foretells. Without ``--venvs``
only TRL is compared, which is installed. open-instruct is on no index, so it is not compared.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from _harness import QUICK, Ratio, tell
from _trainer_sides import PACKAGES, digest

from composer import tables
from composer.compose import compose
from composer.export import EXPORTERS, Trainer
from composer.export.prove import prove, shares
from composer.select import SELECTORS
from composer.types import Mixture, Phase, Schedule

DATA = Path(__file__).parents[2] / "shared/data/domains"
VERSIONS = {"axolotl": "0.19.0", "llama_factory": "0.9.5", "ms_swift": "4.6.0", "oumi": "0.9", "streaming": "0.13.0"}
SHUFFLES = ("ms_swift", "streaming")
NEVER = ("torchvision", "torchaudio", "torchcodec", "triton", "bitsandbytes", "xformers", "flash-attn", "deepspeed")
"""What trainers ask for and the mixing of rows does not need; the builds on an index are for CUDA."""

WEIGHTS = {"law": 0.30, "medicine": 0.25, "finance": 0.05, "science": 0.10, "code": 0.20, "general": 0.10}
AMOUNT = 4_000 if QUICK else 250_000  # loss tokens, here words
TOLERANCE = 0.01


@dataclass(frozen=True)
class Mix:
    """A composition and its samples as files, and by digest what a row counts."""

    composition: Path
    samples: Path
    rows: pl.DataFrame

    def off_by(self, drawn: list[str]) -> float:
        """Return the furthest distance of a domain's share from the plan, in rows, tokens or loss tokens."""
        planned = shares(_light(pl.read_parquet(self.composition)))
        realised = shares(pl.DataFrame({"digest": drawn}).join(self.rows, on="digest", validate="m:1"))
        return max(abs(planned[count][domain] - realised[count].get(domain, 0)) for count in planned for domain in WEIGHTS)


def main() -> None:
    """Compare every trainer whose package is here."""
    venvs = Path(sys.argv[sys.argv.index("--venvs") + 1]).resolve() if "--venvs" in sys.argv else None
    pythons = {"trl": Path(sys.executable)} | ({name: _python(venvs / name, name) for name in VERSIONS} if venvs else {})
    found: list[Ratio] = []
    versions: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        mix = _mix(Path(scratch))
        for name, python in pythons.items():
            for carry in ("rows", "weights") if name != "axolotl" else ("rows",):
                ratios, versions[name] = _compare(name, carry, python, mix, Path(scratch) / carry)
                found += ratios
                print(*ratios, sep="\n", file=sys.stderr, flush=True)
        sizes = {"rows": len(pl.read_parquet(mix.composition)), "distinct": len(mix.rows), "versions": versions}
    tell("trainer_formats", found, equal=all(each.ratio == 1 for each in found if "as our rule" in each.name), sizes=sizes)


def _compare(name: str, carry: str, python: Path, mix: Mix, folder: Path) -> tuple[list[Ratio], dict[str, str]]:
    """Return the share of rows that both sides have with the distance from the plan, and the versions of the other side."""
    exporter = EXPORTERS[name](carry=carry, **({"shard_bytes": 200_000} if name == "streaming" else {}))
    assert isinstance(exporter, Trainer)
    exporter.write(mix.composition, mix.samples, folder)
    told = _theirs(name, python, folder / exporter.home)
    ours, theirs = _ours(exporter, mix, folder), told["rows"]
    if carry == "weights" and name in SHUFFLES:
        both = sum((Counter(ours) & Counter(theirs)).values())
    else:
        both = sum(a == b for a, b in zip(ours, theirs, strict=False))
    same, off_by = both / max(len(ours), len(theirs)), mix.off_by(theirs)
    foretold = prove(exporter, folder, mix.composition, tolerance=TOLERANCE)["off_by"]
    assert same < 1 or abs(foretold - off_by) < 1e-12, (name, carry, foretold, off_by)
    label = f"{name} by {carry}"
    return [
        Ratio(f"{label}: share of rows drawn as our rule does", same, 1.0, "higher", len(theirs)),
        Ratio(f"{label}: furthest share from the plan", off_by, TOLERANCE, "lower", len(theirs)),
    ], told["versions"]


def _ours(exporter: Trainer, mix: Mix, folder: Path) -> list[str]:
    """Return the digests of the rows that our rule draws."""
    rows = exporter.rows(mix.composition, mix.samples, folder)
    digests = {
        part.path: [digest(turns) for group in rows.groups(domain=part.domain, once=part.domain is not None)
                    for turns in group["messages"]]
        for part in exporter.parts(rows.domains, rows.distinct)
    }  # fmt: skip
    drawn = exporter.drawn(folder / exporter.home, {path: len(each) for path, each in digests.items()})
    joined = [each for path in drawn.files for each in digests[path]]
    return [joined[i] for i in drawn.numbers]


def _theirs(name: str, python: Path, home: Path) -> dict[str, Any]:
    """Return what the trainer's package draws, by its own Python."""
    side = Path(__file__).with_name("_trainer_sides.py")
    offline = {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HOME": str(home.parent / "cache")}
    keep = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [python, side, name, home], capture_output=True, text=True, env=keep | offline, cwd=home.parent, check=False
    )
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _python(venv: Path, name: str) -> Path:
    """Return the Python of a trainer's environment, which is made where it is not there."""
    python = venv / "bin" / "python"
    if python.exists():
        return python
    uv = shutil.which("uv") or sys.exit("uv makes the environments: pip install uv")
    venv.mkdir(parents=True, exist_ok=True)
    overrides = venv / "overrides.txt"
    overrides.write_text("".join(f'{each} ; sys_platform == "never"\n' for each in NEVER) + _torch())
    subprocess.run([uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, venv], check=True)
    links = [word for link in os.environ.get("PIP_FIND_LINKS", "").split() for word in ("--find-links", link)]
    wanted = f"{PACKAGES[name]}=={VERSIONS[name]}"
    install = [uv, "pip", "install", "--quiet", "--python", python, "--override", overrides, *links, wanted]
    if subprocess.run(install, check=False).returncode:
        shutil.rmtree(venv)  # half an environment would be taken for a whole one
        sys.exit(f"{name}: the environment was not made")
    return python


def _torch() -> str:
    """Return the build of torch that is installed here: none for CUDA is fetched, whatever bound a trainer has."""
    from importlib.metadata import version

    return f"torch=={version('torch')}\n"


def _mix(folder: Path) -> Mix:
    """Write a composition of six domains whose scarce ones come twice, and its samples."""
    pool = _pool()
    mixture = Mixture(domains=tuple(WEIGHTS), weights=tuple(WEIGHTS.values()))
    phase = Phase(name="all", amount=AMOUNT, mixture=mixture, current=mixture.domains)
    order = SELECTORS["uniform"]()
    made = compose(
        Schedule(phases=(phase,)), pool, domains=mixture.domains, select=order, replay_select=order, max_repeats=2, seed=7
    )
    tables.write(made.frame, folder / "composition.parquet", tables.COMPOSITION)
    tables.write(pool, folder / "samples.parquet", tables.SAMPLE)
    digests = pl.Series("digest", [digest(turns) for turns in pool["messages"]])
    return Mix(folder / "composition.parquet", folder / "samples.parquet", _light(pool).with_columns(digests))


def _light(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select("domain", tokens="n_tokens", loss_tokens="n_loss_tokens")


def _pool() -> pl.DataFrame:
    """Return the rows of the six domains as SAMPLE, with words for tokens."""
    read = _made() if QUICK else pl.concat(pl.read_parquet(DATA / f"{domain}.parquet") for domain in WEIGHTS)
    asked = pl.concat_str("instruction", "input", separator="\n").str.strip_chars()
    said = pl.col("output")
    words = [text.str.split(" ").list.len().cast(pl.UInt32) for text in (asked, said)]
    turns = [pl.struct(role=pl.lit(role), content=text) for role, text in (("user", asked), ("assistant", said))]
    return read.select(
        pl.col("id").alias("sample_id"), pl.col("domain").alias("source"), "domain", role=pl.lit("target"),
        instruction_id=pl.col("id"), messages=pl.concat_list(turns), n_tokens=words[0] + words[1], n_loss_tokens=words[1],
        license="license", source_revision=pl.lit("1"), extras=pl.lit(None, pl.String),
    ).unique("messages", maintain_order=True)  # fmt: skip


def _made() -> pl.DataFrame:
    """Return a few rows of every domain that need no data."""
    rows = [(f"{i:016x}", tuple(WEIGHTS)[i % len(WEIGHTS)], f"ask {i}", "", "say " * (5 + i % 40), "MIT") for i in range(240)]
    return pl.DataFrame(rows, schema=["id", "domain", "instruction", "input", "output", "license"], orient="row")


if __name__ == "__main__":
    main()
