"""Write what is generated of the documents; with ``--check``, say whether it is up to date.

The pages of ``docs/reference`` come from the specs and the command line (``reference.py``), the README's table from the
families' dicts, those of the benchmarks from what their scripts measured; so do the rates that estimates are made of
(``measured.py``), and with them the tables of the page on scale. A table stands between ``<!-- begin NAME -->`` and
``<!-- end NAME -->``.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import evidence
import excerpts
import measured
import reference
import yaml
from fields import page

from composer.cluster import CLUSTERERS
from composer.dedup import DEDUP
from composer.export import EXPORTERS
from composer.laws import LAWS
from composer.replay import REPLAY
from composer.select import SELECTORS
from composer.similarity import DISTANCES
from composer.train.adapters import ADAPTERS
from composer.train.reweight import REWEIGHTING
from flows.recipe import read_recipe
from flows.runners import RUNNERS
from flows.scale import view
from flows.scale.foresee import foresee
from flows.scale.rates import FILE as RATES
from flows.scale.scenario import read_scenario
from probes.embed import EMBEDDERS
from probes.engines import ENGINES
from probes.knowledge import KNOWLEDGE
from probes.knowledge.judges import JUDGES
from probes.tags import TAGGERS

ROOT = Path(__file__).resolve().parents[1]
FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "dedup": DEDUP,
    "law": LAWS,
    "replay": REPLAY,
    "select": SELECTORS,
    "distance": DISTANCES,
    "cluster": CLUSTERERS,
    "probe": KNOWLEDGE,
    "judge": JUDGES,
    "engine": ENGINES,
    "embed": EMBEDDERS,
    "tags": TAGGERS,
    "train.adapter": ADAPTERS,
    "train.law": REWEIGHTING,
    "exports": EXPORTERS,
    "runner": RUNNERS,
}


def compact() -> str:
    """Return the words of every family, a line for each."""
    lines = ["| recipe field | words |", "| --- | --- |"]
    for field, family in FAMILIES.items():
        lines.append(f"| [`{field}`](docs/reference/{page(field)}) | {' '.join(f'`{word}`' for word in family)} |")
    return "\n".join(lines)


def benchmarks() -> str:
    """Return the table of every ratio that a benchmark has measured."""
    lines = ["| benchmark | what | measured | target | met | runs |", "| --- | --- | --- | --- | --- | --- |"]
    for path in sorted((ROOT / "benchmarks/results").glob("*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        for each in found.get("ratios", [found]):
            value, target = each["ratio"], each["target"]
            met = value is not None and (value <= target if each["better"] == "lower" else value >= target)
            bound = f"{'at most' if each['better'] == 'lower' else 'at least'} {target:g}"
            what = each["name"] if "ratios" in found else "cpu"
            told = "outputs differ" if value is None else f"{value:.4g}"
            lines.append(f"| `{path.stem}` | {what} | {told} | {bound} | {'yes' if met else 'no'} | {each['n']} |")
    return "\n".join(lines)


def scale() -> str:
    """Return the tables of the large scenario."""
    folder = ROOT / "docs/scale"
    return view.markdown(foresee(read_recipe(folder / "recipe.yaml"), read_scenario(folder / "cluster.yaml")))


def validation() -> str:
    """Return what was foreseen of a small run, and what it took."""
    found = json.loads((ROOT / "benchmarks/results/scale.json").read_text(encoding="utf-8"))
    lines = [
        "| stage | foreseen, s | measured, s | over it | foreseen, MB | measured, MB | over it |",
        "| --- | --: | --: | --: | --: | --: | --: |",
    ]
    for stage, told in found["costs"].items():
        if told["measured"]["seconds"] < LEAST:
            continue
        cells = []
        for of, unit in (("seconds", 1), ("bytes", 1e6)):
            foreseen, real = told["foreseen"][of], told["measured"][of]
            known = foreseen is not None and real
            cells += ["-" if value is None else f"{value / unit:.2f}" for value in (foreseen, real)]
            cells.append(f"{foreseen / real:.2f}" if known and foreseen else "-")
        lines.append(f"| `{stage}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def filled(text: str, tables: Mapping[str, Callable[[], str]], path: Path) -> str:
    """Return the text with every table written anew."""
    for name, make in tables.items():
        pattern = re.compile(rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
        if not pattern.search(text):
            raise SystemExit(f"{path}: no place for the table '{name}'")
        text = pattern.sub(lambda found, make=make: found[1] + make() + "\n" + found[2], text)
    return text


LEAST = 0.05  # seconds of a stage that is shown beside what was foreseen of it


DOCUMENTS: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "README.md": {"families": compact, "evidence": evidence.summary},
    "benchmarks/README.md": {"results": benchmarks},
    "docs/evidence.md": evidence.TABLES,
    **excerpts.PAGES,
    "docs/scale.md": {"scale": scale, "validation": validation},
}


def write(path: Path, text: str) -> None:
    """Write a file, or with ``--check`` say that it is out of date."""
    before = path.read_text(encoding="utf-8") if path.is_file() else None
    if "--check" not in sys.argv:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    elif before != text:
        raise SystemExit(f"{path.relative_to(ROOT)}: what is generated is out of date; run make docs")


def whole() -> dict[str, str]:
    """Return every document that is generated from its first line to its last, by its path."""
    made = {"recipe.md": reference.recipe(FAMILIES), "words.md": reference.words(FAMILIES), "commands.md": reference.commands()}
    made |= {page(name): reference.family(name, FAMILIES) for name in FAMILIES}
    return {f"docs/reference/{name}": text for name, text in made.items()}


def main() -> None:
    """Write the rates, then the tables and pages, or check them."""
    write(RATES, measured.HEAD + yaml.safe_dump(measured.rates(), sort_keys=False, width=1_000))
    for name, tables in DOCUMENTS.items():
        write(ROOT / name, filled((ROOT / name).read_text(encoding="utf-8"), tables, ROOT / name))
    for name, text in whole().items():
        write(ROOT / name, text)


if __name__ == "__main__":
    main()
