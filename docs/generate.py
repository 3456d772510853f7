"""Write the tables of the README from the families' dicts; with ``--check``, say whether they are up to date.

A table stands between ``<!-- begin NAME -->`` and ``<!-- end NAME -->``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from composer.export import EXPORTERS
from composer.laws import LAWS
from composer.replay import REPLAY
from composer.select import SELECTORS
from composer.similarity import DISTANCES
from composer.train.adapters import ADAPTERS
from flows.cli import STAGE_COMMANDS
from flows.stages import STAGES
from probes.embed import EMBEDDERS
from probes.engines import ENGINES
from probes.knowledge import KNOWLEDGE
from probes.knowledge.judges import JUDGES
from probes.tags import TAGGERS

ROOT = Path(__file__).resolve().parents[1]
FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "law": LAWS,
    "replay": REPLAY,
    "select": SELECTORS,
    "distance": DISTANCES,
    "probe": KNOWLEDGE,
    "judge": JUDGES,
    "engine": ENGINES,
    "embed": EMBEDDERS,
    "tags": TAGGERS,
    "adapter": ADAPTERS,
    "exports": EXPORTERS,
}


def families() -> str:
    """Return the table of every family's members."""
    lines = ["| recipe field | word | what it does | source |", "| --- | --- | --- | --- |"]
    for field, family in FAMILIES.items():
        lines += [f"| `{field}` | `{word}` | {member.summary} | {member.reference} |" for word, member in family.items()]
    return "\n".join(lines)


def stages() -> str:
    """Return the table of the stages."""
    lines = ["| command | leaves | what it does |", "| --- | --- | --- |"]
    lines += [f"| `{name}` | `{STAGES[name].kind}` | {summary} |" for name, summary in STAGE_COMMANDS.items()]
    return "\n".join(lines)


def filled(text: str) -> str:
    """Return the text with every table written anew."""
    for name, make in {"families": families, "stages": stages}.items():
        pattern = re.compile(rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
        if not pattern.search(text):
            raise SystemExit(f"README.md: no place for the table '{name}'")
        text = pattern.sub(lambda found, make=make: found[1] + make() + "\n" + found[2], text)
    return text


def main() -> None:
    """Write the README's tables, or check them."""
    path = ROOT / "README.md"
    before = path.read_text(encoding="utf-8")
    after = filled(before)
    if "--check" in sys.argv:
        if before != after:
            raise SystemExit("README.md: generated tables are out of date; run make docs")
        return
    path.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    main()
