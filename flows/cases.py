"""What the doctor is asked about: the sources of a recipe, or files and folders as they lie."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from composer.artifact import Store
from composer.decontaminate import Decontaminate, EvaluationSet
from composer.dedup.exact import ExactDedup
from composer.encode import load_tokenizer
from composer.errors import SourceError
from composer.fingerprint import Fingerprints
from composer.ingest import Files, locate
from composer.progress import say
from composer.types import Source
from flows.doctor import Case
from flows.models import chat_template
from flows.pipeline import make_plan
from flows.recipe import Recipe

RECIPE = (".yaml", ".yml")


def case_of_recipe(recipe: Recipe, store: Store) -> Case:
    """Return a recipe's sources, with its rules and its model's tokenizer; without one where the model is not trained yet."""
    decontaminate = recipe.decontaminate
    if decontaminate is not None:
        against = tuple(recipe.located(each) for each in decontaminate.against)
        decontaminate = decontaminate.model_copy(update={"against": against})
    return Case(
        sources=tuple(map(recipe.located, recipe.sources)),
        dedup=recipe.dedup,
        decontaminate=decontaminate,
        embed=recipe.embed.encode if recipe.embed is not None and "embed" in recipe.dedup.needs else None,
        tokenizer=_tokenizer(recipe, store),
        **recipe.trained_on,
        max_dropped=recipe.max_dropped,
    )


def case_of_paths(
    paths: Sequence[str],
    *,
    model: str | None,
    max_length: int,
    against: Sequence[str],
    encoding: str,
    max_dropped: float | None,
) -> Case:
    """Return every file that the paths name as a source of its own.

    Raises
    ------
    SourceError
        For a path that is not there, or holds nothing that can be read.
    """
    sets = tuple(EvaluationSet(name=name, path=path, encoding=encoding) for name, path in _named(against))
    return Case(
        sources=[
            Source(name=name, path=path, domain="data", license="from_row", encoding=encoding) for name, path in _named(paths)
        ],
        dedup=ExactDedup(),
        decontaminate=Decontaminate(against=sets) if sets else None,
        tokenizer=load_tokenizer(model) if model else None,
        max_length=max_length,
        max_dropped=max_dropped,
    )


def _named(paths: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield a name and a path for each file, the names different from each other."""
    taken: set[str] = set()
    for path in paths:
        for found, told in _files(path):
            stem = re.sub(r"[^\w.-]+", "-", told).strip("-") or "source"
            name = next(name for i in range(len(taken) + 1) if (name := stem if not i else f"{stem}-{i + 1}") not in taken)
            taken.add(name)
            yield name, found


def _files(path: str) -> Iterator[tuple[str, str]]:
    """Yield the files that a path means, and what to call each: below a folder, the way to it."""
    try:
        place = locate(Source(name="path", path=path, domain="data"))
    except SourceError as error:
        raise SourceError(error.what, where="TARGETS", expected=error.expected, got=error.got, hint=error.hint) from None
    if not isinstance(place, Files):
        yield path, path
        return
    root = Path(path)
    if root.is_dir():
        read = set(place.paths)
        for other in sorted(each for each in root.rglob("*") if each.is_file() and each not in read):
            say(f"not data: {other}")
    for each in place.paths:
        told = each.relative_to(root).as_posix() if root.is_dir() else each.name
        yield str(each), told


def _tokenizer(recipe: Recipe, store: Store) -> Any:
    model, aside = recipe.base_model, Store(store.root / ".nowhere")  # where nothing is, no fingerprint is left
    if model.path is not None:
        folder = recipe.at(model.path)
        template, _ = chat_template(recipe, Fingerprints(aside.root))
        return load_tokenizer(folder if folder.exists() else model.path, chat_template=template)
    for step in make_plan(recipe, aside):
        if step.stage.name == "base" and (made := store.find(step.stage.kind, step.key)):
            return load_tokenizer(made.path / "model", chat_template=chat_template(recipe, Fingerprints(aside.root))[0])
    say("the base model is not trained yet: lengths are told in characters, and no row is rendered")
    return None
