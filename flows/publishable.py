"""What of a story that was carried out can be pushed: its export with the data card, or what it was trained to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from composer.artifact import Artifact, Store
from composer.errors import SpecError
from composer.export.hub.pieces import CARD, Piece, of_bytes, pieces_in
from composer.export.rows import licenses, licenses_by_source
from composer.manifest import MANIFEST, read_manifest
from composer.train.model import DESCRIBED
from flows.citations import citations
from flows.plan import Plan, Step
from flows.publish import Content, Licences
from flows.stages import described_parts


def dataset(story: Plan, store: Store) -> Content | None:
    """Return the export of a story, if it was made."""
    step = _step(story, "export")
    export = _made(step, store)
    if export is None:
        return None
    rows = _rows(step, store)
    pieces = pieces_in(export.path, known=_hashes(export), leave=(CARD, MANIFEST))
    return Content(f"export/{export.key}", pieces, export.file(CARD).read_text(encoding="utf-8"), licenses_by_source(*rows))


def model(story: Plan, store: Store) -> Content | None:
    """Return what the last phase of a story was trained to, if it was."""
    step = _last_training(story)
    trained = _made(step, store)
    if trained is None:
        return None
    folder = next(trained.path / name for name in ("adapter", "model") if (trained.path / name).is_dir())
    base, rows = _base_of(step, folder), _rows(step, store)
    known = {name.partition("/")[2]: sha for name, sha in _hashes(trained).items() if name.startswith(f"{folder.name}/")}
    pieces = [_with_base(piece, base) for piece in pieces_in(folder, known=known, leave=(CARD,))]
    return Content(f"model/{trained.key}", pieces, _card(story, step, store, base, rows), licenses_by_source(*rows))


def merged(folder: Path, told: Mapping[str, Any], parts: Sequence[str], licences: Licences) -> Content:
    """Return a checkpoint into which adapters were merged; ``told`` is what the merge said, ``parts`` are their names."""
    from composer.export.hub.model_card import merged_card

    names = [part if part.startswith("model/") else Path(part).name for part in parts]
    pieces = pieces_in(folder, leave=(CARD,))
    counted = {licence: sum(sources.values()) for licence, sources in licences.items()}
    return Content(f"merge/{folder.name}", pieces, merged_card(folder.name, told, names, counted), licences)


def rests_on(trained: Path, store: Store) -> Licences:
    """Return the licences of the rows that a trained artifact, or the adapter in it, was trained on.

    Of a folder that is no artifact, or whose data is not in the store, it is one that is unknown, with no rows counted.
    """
    folder = trained if (trained / MANIFEST).is_file() else trained.parent
    inputs = read_manifest(folder).inputs if (folder / MANIFEST).is_file() else {}
    for where in (store, Store(folder.resolve().parents[1])) if inputs else ():
        composition, samples = (where.find(kind, str(inputs.get(kind))) for kind in ("composition", "samples"))
        if composition and samples:
            return licenses_by_source(composition.file("composition.parquet"), samples.file("samples.parquet"))
    return {"unknown": {trained.name: 0}}


def together(parts: Sequence[Licences]) -> Licences:
    """Return the licences of several parts as those of one.

    Examples
    --------
    >>> together([{"MIT": {"a": 1}}, {"MIT": {"a": 2, "b": 3}}])
    {'MIT': {'a': 3, 'b': 3}}
    """
    out: dict[str, dict[str, int]] = {}
    for licence, sources in (pair for part in parts for pair in part.items()):
        for source, rows in sources.items():
            of = out.setdefault(licence, {})
            of[source] = of.get(source, 0) + rows
    return out


def _card(story: Plan, step: Step, store: Store, base: Mapping[str, Any], rows: tuple[Path, Path]) -> str:
    from composer.export.hub.model_card import model_card

    trained, composition = _needed(step, store), _needed(_of(step, "composition"), store)
    schedule = _made(_of(_of(step, "composition"), "schedule"), store)
    retained = next((_made(each, store) for each in story if each.stage.name == "retain"), None)
    told = trained.json("train.json")
    return model_card(
        name=story.recipe.name,
        base=base,
        training={**told, "max_length": step.values["max_length"], "phases": len(story.recipe.groups)},
        report=composition.json("report.json"),
        schedule=schedule.json("schedule.json") if schedule else None,
        sources=described_parts([_needed(part, store) for part in _parts(_of(step, "samples"))]),
        licenses=licenses(*rows),
        retention=retained.json("retention.json") if retained else None,
        key=f"model/{trained.key}",
        citations=citations({**story.recipe.identity(), "adapter": told["spec"]["adapter"]}),
    )


def _last_training(story: Plan) -> Step:
    """Return the training of the last phase, which is no expert's and no upper bound's."""
    phases = story.recipe.groups
    label = f"train {'+'.join(phases[-1])}" if story.recipe.sequence and len(phases) > 1 else "train"
    return _step(story, label)


def _base_of(step: Step, folder: Path) -> dict[str, Any]:
    """Return what names the base of a training: a Hub id with its commit or the content of a local one, and its fingerprint."""
    pinned, described = step.values["model"], folder / DESCRIBED
    fingerprint = json.loads(described.read_text(encoding="utf-8"))["base"] if described.is_file() else None
    if "base" in step.inputs:
        return {"id": None, "revision": None, "content": f"base/{_of(step, 'base').key}", "fingerprint": fingerprint}
    on_hub = pinned.revision is not None
    return {
        "id": pinned.path if on_hub else None, "revision": pinned.revision, "content": pinned.content.split(" ")[0],
        "fingerprint": fingerprint,
    }  # fmt: skip


def _with_base(piece: Piece, base: Mapping[str, Any]) -> Piece:
    """Return peft's settings of an adapter with the base on the Hub for which the local copy of it stood."""
    if Path(piece.path).name != "adapter_config.json" or base["id"] is None or isinstance(piece.content, bytes):
        return piece
    told = json.loads(piece.content.read_text(encoding="utf-8"))
    told |= {"base_model_name_or_path": base["id"], "revision": base["revision"]}
    return of_bytes(piece.path, (json.dumps(told, indent=2, sort_keys=True) + "\n").encode())


def _rows(step: Step, store: Store) -> tuple[Path, Path]:
    """Return the files of the composition and of the samples that a step read."""
    composition, samples = (_needed(_of(step, role), store) for role in ("composition", "samples"))
    return composition.file("composition.parquet"), samples.file("samples.parquet")


def _step(story: Plan, label: str) -> Step:
    found = [step for step in story if step.label == label]
    if not found:
        hint = "the recipe switches it off"
        raise SpecError(f"this recipe has no step '{label}' to push", where=story.recipe.name, hint=hint)
    return found[-1]


def _of(step: Step, role: str) -> Step:
    found = step.inputs[role]
    assert isinstance(found, Step)
    return found


def _parts(step: Step) -> tuple[Step, ...]:
    found = step.inputs["parts"]
    assert isinstance(found, tuple)
    return found


def _made(step: Step, store: Store) -> Artifact | None:
    return store.find(step.stage.kind, step.key)


def _needed(step: Step, store: Store) -> Artifact:
    return _made(step, store) or store.get(f"{step.stage.kind}/{step.key}")  # which says what is missing


def _hashes(artifact: Artifact) -> dict[str, str]:
    return {name: each.sha256 for name, each in artifact.manifest.files.items()}
