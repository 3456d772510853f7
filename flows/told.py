"""What a run tells on Prefect's pages: a summary, tables of weights and shares, pictures, and where the files lie.

Everything here is made of artifacts of the store and is plain data; ``flows.prefect_artifacts`` hands it to Prefect. Names of
domains and sources come from the data, so they are escaped in markdown.
"""

from __future__ import annotations

import base64
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from composer.artifact import Artifact, Store
from composer.printable import printable
from flows import reporting
from flows.plan import Plan, Step

UNITS = ("rows", "tokens", "loss_tokens")
NOTHING = "Nothing to do: every artifact was there."
PICTURED = ("mixture", "similarity")


@dataclass(frozen=True)
class Leaf:
    """One artifact for Prefect: its key, what it is, and its content as that kind of artifact wants it."""

    key: str
    kind: Literal["markdown", "table", "image", "link"]
    content: Any
    description: str = ""


@dataclass
class Run:
    """What has happened so far: every step that is done, and whether it was there."""

    plan: Plan
    store: Store
    done: list[tuple[Step, Artifact, bool]] = field(default_factory=list)

    def heard(self, step: Step, artifact: Artifact, was_there: bool) -> None:
        """Take notice of a finished step."""
        self.done.append((step, artifact, was_there))

    @property
    def last(self) -> dict[str, Artifact]:
        """The last artifact of every kind."""
        return {artifact.kind: artifact for _, artifact, _ in self.done}

    @property
    def made(self) -> list[Artifact]:
        """What this run made itself."""
        return [artifact for _, artifact, was_there in self.done if not was_there]


def leaves(run: Run, error: Exception | None = None) -> Iterator[Leaf]:
    """Return what a run that has ended, or failed with ``error``, leaves on Prefect's pages."""
    name = slug(run.plan.recipe.name)
    yield Leaf(f"{name}-summary", "markdown", summary(run, error), "What was done and what was there")
    last = run.last
    if "mixture" in last:
        yield Leaf(f"{name}-shares", "table", shares(last), "Weights, planned and realised shares of every domain")
    for kind in PICTURED:
        if kind in last:
            yield Leaf(f"{name}-{kind}", "image", picture(last[kind]), f"{kind.capitalize()}: {kind}/{last[kind].key}")
    for key, text, path in links(run):
        yield Leaf(f"{name}-{key}", "link", (path.resolve().as_uri(), text), f"{text}: {path}")


def summary(run: Run, error: Exception | None = None) -> str:
    """Return a run's summary as markdown."""
    made, total = len(run.made), len(run.plan.steps)
    if error is not None:
        at = run.plan.steps[len(run.done)].label if len(run.done) < total else "the end"
        head = [f"**Failed** at {escape(at)}: {escape(str(error))[:1000]}",
                f"{len(run.done)} of {total} stages are complete and stay so; the next run goes on from there."]  # fmt: skip
    elif not made:
        head = [f"**{NOTHING}** Sources and recipe are what they were."]
    else:
        seconds = sum(artifact.manifest.made["seconds"] for artifact in run.made)
        head = [f"**{made} of {total} stages done** in {seconds:,.1f} s; {len(run.done) - made} were there."]
    lines = ["| stage | artifact | | seconds |", "| --- | --- | --- | ---: |"]
    for step, artifact, was_there in run.done:
        seconds = "" if was_there else f"{artifact.manifest.made['seconds']:,.1f}"
        lines.append(
            f"| {escape(step.label)} | {artifact.kind}/{artifact.key} | {'there' if was_there else 'made'} | {seconds} |"
        )
    parts = [f"# {escape(run.plan.recipe.name)}", *head, *changes(run), "\n".join(lines), *lies(run)]
    return "\n\n".join(parts)


def changes(run: Run) -> list[str]:
    """Return what changed since the composition that the recipe left before, where this run made another."""
    from flows.mix_diff import compare, side_of

    composition = run.last.get("composition")
    before = _exported_before(run)
    if composition is None or before is None or composition not in run.made:
        return []
    known = {artifact.key: artifact for artifact in run.store.all()}
    document = compare(side_of(before, known), side_of(composition, known))
    lines = [f"## Since composition/{before.key}", *_sources(document), *_domains(document)]
    return [*lines, f"`sft-composer mix diff composition/{before.key} composition/{composition.key} --store {run.store}`"]


def _exported_before(run: Run) -> Artifact | None:
    """Return the composition that the recipe exported last before this run's."""
    exports = [each for each in run.store.all("export") if each.manifest.spec["name"] == run.plan.recipe.name]
    own, export = run.last.get("composition"), run.last.get("export")
    if export is not None:
        exports = exports[: [each.key for each in exports].index(export.key)]
    keys = [each.manifest.inputs["composition"] for each in exports]
    earlier = [key for key in keys if own is not None and key != own.key]
    return run.store.find("composition", earlier[-1]) if earlier else None


def _sources(document: Mapping[str, Any]) -> list[str]:
    told = []
    for each in document["sources"]:
        if each["changed"]:
            rows = [("no rows" if n is None else f"{n:,} rows") for n in (each["rows"]["a"], each["rows"]["b"])]
            told.append(f"- source {escape(each['source'])}: {rows[0]}, now {rows[1]}")
    fields = dict.fromkeys(f"{escape(s['step'])}: {escape(s['field'])}" for s in document["specs"] if s["field"] != "content")
    told += [f"- asked otherwise: {', '.join(list(fields)[:20])}"] if fields else []
    return ["\n".join(told)] if told else []


def _domains(document: Mapping[str, Any]) -> list[str]:
    lines = ["| domain | weight | realised share | rows |", "| --- | --- | --- | --- |"]
    for each in document["domains"]:
        cells = [f"{number(each[name]['a'])} → {number(each[name]['b'])}" for name in ("weight", "realised_share", "rows")]
        lines.append(f"| {escape(each['domain'])} | {' | '.join(cells)} |")
    return ["\n".join(lines)]


def lies(run: Run) -> list[str]:
    """Return where the run's files lie, as lines of markdown."""
    told = [f"- {text}: `{path}`" for _, text, path in links(run)]
    return ["\n".join([*told, f"- store: `{run.store if run.store.remote else run.store.root.resolve()}`"])]


def shares(last: Mapping[str, Artifact]) -> list[dict[str, Any]]:
    """Return one row per domain: its weight, and of a composition what was planned and what came, in all three units."""
    mixture = last["mixture"].json("mixture.json")
    weights = dict(zip(mixture["domains"], mixture["weights"], strict=True))
    report = last["composition"].json("report.json")["domains"] if "composition" in last else []
    if not report:
        return [{"domain": domain, "weight": round(weight, 6)} for domain, weight in weights.items()]
    return [
        {
            "domain": each["domain"],
            "weight": round(weights[each["domain"]], 6) if each["domain"] in weights else None,
            "planned": round(each["planned_share"], 6),
            "realised": round(each["realised_share"], 6),
            **{unit.replace("_", " "): f"{each[unit]:,} ({each[f'{unit}_share']:.1%})" for unit in UNITS},
        }
        for each in report
    ]


def picture(artifact: Artifact) -> str:
    """Return an artifact's picture as a ``data:`` address, which no page has to fetch from anywhere."""
    from flows.pictures import draw

    with tempfile.TemporaryDirectory() as folder:
        content = draw(artifact, Path(folder) / "picture.png").read_bytes()
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def draw_page(run: Run) -> None:
    """Draw the page of a run that came to its end; of one that did not there is none."""
    if "run" in run.last:
        reporting.write(run.store, f"run/{run.last['run'].key}")


def links(run: Run) -> list[tuple[str, str, Path]]:
    """Return key, text and path of what a person opens after a run: the data card and the page, or else what would be on it."""
    last, found = run.last, []
    if "export" in last:
        found.append(("card", "Data card", last["export"].path / "README.md"))
    if "run" in last:
        page = reporting.place(run.store, last["run"])
        found.append(("report", "Report", page if page.is_file() else last["run"].path / "run.json"))
    return [each for each in found if each[2].is_file()]


def slug(name: str) -> str:
    """Return a name as Prefect wants a key: lowercase letters, digits and dashes.

    Examples
    --------
    >>> slug("My_recipe.v2"), slug("...")
    ('my-recipe-v2', 'run')
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "run"


def escape(text: str) -> str:
    """Return text so that markdown shows it as it stands, in one line.

    Examples
    --------
    >>> escape("<b>a|b</b> _c_")
    '&#60;b&#62;a&#124;b&#60;/b&#62; &#95;c&#95;'
    """
    return "".join(f"&#{ord(c)};" if c in _SPECIAL else c for c in printable(" ".join(text.split())))


_SPECIAL = frozenset("\\`*_{}[]<>()#+!|&~$:@")  # colons and at signs would make links of addresses


def number(value: float | int | None) -> str:
    """Return a count or a share as a person reads it, a dash for none."""
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
