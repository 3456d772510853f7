"""The command ``merge``: adapters on their base become one plain checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from composer.errors import SpecError
from flows.command import DebugOption, JsonOption, StoreOption, begin, give
from flows.publish import NAMED, HubOption, Publication, PublicOption, RevisionOption, publication

CONFLICTS = "--license-conflicts"


def merge(
    base: Annotated[str, typer.Argument(help="The base: a model folder, a Hub id, or a base artifact.", show_default=False)],
    trained: Annotated[list[str], typer.Argument(help="Trained artifacts, or folders of theirs.", show_default=False)],
    out: Annotated[str, typer.Option(help="The folder to write, which must not be there yet.")],
    method: Annotated[str, typer.Option(help="add, task_arithmetic, ties or dare.")] = "add",
    weights: Annotated[str | None, typer.Option(help="A weight for each, such as 1,0.5.")] = None,
    density: Annotated[float | None, typer.Option(help="Share of each delta's entries that ties and dare use.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of what dare leaves out.")] = 0,
    hub: HubOption = None, public: PublicOption = False, revision: RevisionOption = None,
    license_conflicts: Annotated[
        Literal["stop", "allow"], typer.Option(CONFLICTS, help="With --hub: what to do where licences of the data conflict.")
    ] = "stop",
    store: StoreOption = None, as_json: JsonOption = False, debug: DebugOption = False,
) -> None:  # fmt: skip
    """Merge adapters of one base into a plain checkpoint, by sums, TIES or DARE."""
    begin(as_json, debug)
    from composer.artifact import Store
    from composer.train.merging import merge as carry_out
    from composer.types import ModelRef
    from flows.publishable import merged, rests_on, together

    pushing = publication(hub, kind="model", public=public, revision=revision, allow=f"{CONFLICTS} allow")
    if not pushing and license_conflicts == "allow":
        raise SpecError("only with --hub", where=CONFLICTS, hint=NAMED)
    folders = [_folder(each, store) for each in trained]
    if pushing:  # what stands against it is said before the work
        pushing.check()
        licences = together([rests_on(folder, Store(store or "store")) for folder in folders])
        pushing.check_licences(licences, allowed=license_conflicts == "allow")
    document = carry_out(
        ModelRef(path=_model(base, store)), folders, method=method, weights=_numbers(weights), density=density, seed=seed,
        folder=Path(out),
    )  # fmt: skip
    if pushing:
        document["hub"] = pushing.send_content(merged(Path(out), document, trained, licences))
    give(document, lambda: _show(document, trained, pushing))


def _model(name: str, store: str | None) -> str:
    """Return the path of a base that is an artifact; any other name as it is."""
    kind = name.partition("/")[0]
    if kind != "base" or Path(name).exists():
        return name
    return str(_folder(name, store) / "model")


def _folder(name: str, store: str | None) -> Path:
    from composer.artifact import Store

    return Path(name) if Path(name).is_dir() else Store(store or "store").get(name).path


def _numbers(text: str | None) -> Sequence[float] | None:
    if text is None:
        return None
    try:
        return [float(each) for each in text.split(",")]
    except ValueError:
        raise SpecError("no numbers", where="--weights", expected="such as 1,0.5", got=text) from None


def _show(document: Mapping[str, Any], trained: Sequence[str], pushing: Publication | None) -> None:
    from flows.screen import out, table

    rows = list(zip(trained, document["weights"], document["moved"], strict=True))
    out.print(table(f"Merged by {document['method']}", ("adapter", "weight", "matrices moved"), rows))
    out.print(f"model: {document['folder']}", soft_wrap=True, markup=False)
    if pushing:
        pushing.show(document["hub"])
