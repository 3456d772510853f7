"""The page of a run: which artifacts belong to it, where the page lies, and the command ``report``.

A page is a view and never bears identity: it lies beside the artifacts, in ``<store>/reports``, and may be drawn again at any
time.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from composer.errors import StoreError
from flows.command import DebugOption, JsonOption, Reference, StoreOption, begin, give

if TYPE_CHECKING:
    from composer.artifact import Artifact, Store
    from composer.report import Record

FOLDER = "reports"


def write(store: Store, reference: str = "run", other: str | None = None, *, to: Path | None = None) -> dict[str, Any]:
    """Write the page of a run, or of two side by side, and return where it lies and what it is of.

    Any other artifact may be named as well: then the page shows it and what it was made from.

    Raises
    ------
    StoreError
        Where there is no such artifact, or the page cannot be written.
    """
    from composer.fingerprint import write_text
    from composer.report import page
    from flows.mix_diff import Side, differences

    runs = [record_of(store.get(each), store) for each in (reference, other) if each is not None]
    at = (to or place(store, *(run.artifact for run in runs))).resolve()
    changed = differences(*(Side(run.artifact, run.members) for run in runs)) if len(runs) > 1 else None
    content = page(runs, at=at, differences=changed)
    try:
        at.parent.mkdir(parents=True, exist_ok=True)
        write_text(at, content)
    except OSError as error:
        raise StoreError(f"the page cannot be written: {error.strerror}", where="--to", got=str(at)) from None
    named = [f"{run.artifact.kind}/{run.artifact.key}" for run in runs]
    return {"page": str(at), "of": named, "bytes": at.stat().st_size}


def place(store: Store, *artifacts: Artifact) -> Path:
    """Return where the page of an artifact, or of two, lies."""
    return store.root / FOLDER / f"{'-'.join(each.key for each in artifacts)}.html"


def record_of(artifact: Artifact, store: Store) -> Record:
    """Return an artifact with all that belongs to it: a run's members in the story's order, else what it was made from."""
    from composer.report import Record
    from flows.mix_diff import side_of

    if artifact.kind == "run":
        told = artifact.json("run.json")
        found = [store.find(each["kind"], each["key"]) for each in told["artifacts"]]
        there = tuple(each for each in found if each)
        return Record(told["name"], artifact, there, missing=len(found) - len(there))
    ancestry = side_of(artifact, {each.key: each for each in store.all()}).ancestry
    members = sorted(ancestry, key=lambda each: (each.manifest.made["at"], each.key))
    return Record(f"{artifact.kind} {artifact.key[:8]}", artifact, tuple(members))


def report(
    reference: Reference = "run",
    other: Annotated[str | None, typer.Argument(help="A second run, to show beside the first.")] = None,
    to: Annotated[str | None, typer.Option(help="The HTML file to write (default: in the store's folder reports).")] = None,
    store: StoreOption = None, as_json: JsonOption = False, debug: DebugOption = False,
) -> None:  # fmt: skip
    """Write one HTML page of a run, or of two runs side by side, that opens without a network."""
    begin(as_json, debug)
    from composer.artifact import Store

    document = write(Store(store or "store"), reference, other, to=Path(to) if to else None)
    give(document, lambda: show(document))


def show(document: dict[str, Any]) -> None:
    """Say where the page lies."""
    from composer.report.numbers import size
    from flows.screen import out

    out.print(f"{' and '.join(document['of'])}: {document['page']} ({size(document['bytes'])})", soft_wrap=True, markup=False)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("report", rich_help_panel="Look")(report)
