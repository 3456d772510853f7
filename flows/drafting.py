"""A draft of a recipe: what lies in folders, in files and on the Hub, and what each thing is probably for.

Every file is looked into at its beginning (:mod:`composer.ingest.beginning`), its name is read (:mod:`flows.guess`), and what
follows is a guess that the recipe states and a person can correct.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from composer.errors import InputError, SourceError
from composer.ingest import Files, hub, locate
from composer.ingest.beginning import Beginning, beginning
from composer.ingest.declared import declared
from composer.ingest.location import is_hub_id
from composer.progress import track
from composer.types import Source
from flows.columns_guess import columns_of
from flows.guess import Guess, Split, domain_of, guesses

ROWS_OF_HUB = 200  # that are fetched for a look
ELSEWHERE = ("config.json", "manifest.json")
"""What lies in a folder of a model, or of an artifact, whose files are no data."""

Use = Literal["target", "validation", "reference", "evaluation", "none"]


@dataclass(frozen=True)
class Found:
    """One source: the fields that a recipe states of it, what a look found, what it is used for, and why so."""

    fields: Mapping[str, Any]
    look: Beginning
    split: Split
    is_benchmark: bool = False
    use: Use = "target"
    notes: tuple[str, ...] = ()

    @property
    def domain(self) -> str:
        """The domain that it feeds."""
        return str(self.fields["domain"])

    @property
    def shapes(self) -> tuple[str, ...]:
        """The shapes that were met, the most frequent first."""
        met: Mapping[str, int] = self.look.stats["shapes"]
        return tuple(sorted(met, key=lambda shape: -met[shape]))

    @property
    def is_text(self) -> bool:
        """Whether it holds plain documents and nothing else."""
        return self.shapes == ("text",)


@dataclass(frozen=True)
class Draft:
    """All that was found: sources in the order of their paths, and what was passed over, with the reason."""

    found: tuple[Found, ...]
    passed_over: tuple[tuple[str, str], ...] = ()

    def used(self, *uses: Use) -> tuple[Found, ...]:
        """Return what is used for one of some things."""
        return tuple(each for each in self.found if each.use in uses)

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains of what is trained on."""
        return tuple(dict.fromkeys(each.domain for each in self.used("target")))


@dataclass
class _Way:
    """The things that were met on the way through the targets."""

    work: Path
    found: list[Found] = field(default_factory=list)
    passed_over: list[tuple[str, str]] = field(default_factory=list)

    def look(self, source: Source, files: Sequence[Path]) -> Beginning:
        return beginning(source, files, self.work / f"{len(list(self.work.iterdir())):04}")


def draft(targets: Sequence[str]) -> Draft:
    """Return a draft over files, folders, globs and Hub ids.

    Raises
    ------
    InputError
        For a target that is not there, or where nothing in any of them can be trained on.
    """
    with tempfile.TemporaryDirectory(prefix="sft-composer-init-") as work:
        way = _Way(Path(work))
        for target in targets:
            if is_hub_id(target) and not Path(target).exists():
                _of_hub(target, way)
            else:
                _of_files(target, way)
    found = _named(_settled(way.found))
    if not any(each.use == "target" for each in found):
        unused = [*((each.fields["path"], "; ".join(each.notes)) for each in found), *way.passed_over]
        told = "; ".join(f"{path}: {why}" for path, why in unused)
        hint = "docs/data.md lists the shapes; sft-composer doctor says what became of every row"
        raise InputError("nothing here can be trained on", where=", ".join(targets), got=told[:600], hint=hint)
    return Draft(tuple(found), tuple(way.passed_over))


def _of_files(target: str, way: _Way) -> None:
    try:
        place = locate(Source(name="target", path=target, domain="data"))
    except SourceError as error:
        hint = error.hint or _of_plain_text(Path(target))
        raise SourceError(error.what, where="SOURCES", got=error.got, expected=error.expected, hint=hint) from None
    assert isinstance(place, Files)
    root = place.root if place.root.is_dir() else Path(_fixed(target))
    files = [path for path in place.paths if not _is_aside(path, root, way)]
    for guess in track(guesses(root, files), "look into sources", unit="sources"):
        _of_guess(guess, root, way)


def _fixed(target: str) -> str:
    """Return the folder below which a file, or what a glob matches, lies."""
    parts = Path(target).parts
    fixed = next((i for i, part in enumerate(parts) if any(sign in part for sign in "*?[")), len(parts) - 1)
    return str(Path(*parts[:fixed])) if fixed else "."


def _of_plain_text(folder: Path) -> str:
    texts = [path for path in folder.rglob("*") if path.suffix.lower() in (".txt", ".md")] if folder.is_dir() else []
    return f'its {len(texts)} text files are no rows: write {{"text": ...}} of each into a .jsonl file' if texts else ""


def _is_aside(path: Path, root: Path, way: _Way) -> bool:
    """Return whether a file lies in a folder that holds no data, and remember the folder."""
    for folder in path.parents:
        if any((folder / name).is_file() for name in ELSEWHERE):
            told = (str(folder), "a model or an artifact")
            way.passed_over += [told] if told not in way.passed_over else []
            return True
        if folder == root:
            break
    return False


def _of_guess(guess: Guess, root: Path, way: _Way) -> None:
    domain = guess.domain or domain_of(root.resolve().name)
    source = Source(name="look", path=guess.path, domain=domain, license="from_row")
    look = way.look(source, guess.files)
    notes: list[str] = []
    fields: dict[str, Any] = {"path": guess.path, "domain": domain}
    if not look.stats["samples"] and not guess.is_benchmark and (columns := columns_of(look.first)):
        again = way.look(source.model_copy(update={"columns": columns}), guess.files)
        if again.stats["samples"]:
            look, fields = again, {**fields, "columns": columns}
            notes.append(f"CHECK columns, guessed among {_listed(look.first)}")
    word = declared(_between(guess.files[0].parent, root))
    way.found.append(Found(fields | _license(look, word, notes), look, guess.split, guess.is_benchmark, notes=tuple(notes)))


def _between(folder: Path, root: Path) -> Iterator[Path]:
    """Yield the folders from a file's own up to the root."""
    yield folder
    for above in folder.parents if folder != root and folder.is_relative_to(root) else ():
        yield above
        if above == root:
            return


def _license(look: Beginning, word: tuple[str, str] | None, notes: list[str]) -> dict[str, str]:
    """Return the licence that the rows name, or the folder or card does; without one a note asks for it."""
    if any(name != "unknown" for name in look.stats["licenses"]):
        return {"license": "from_row"}
    if word is not None:
        notes.append(f"CHECK license, as {word[1]} says")
        return {"license": word[0]}
    notes.append("CHECK license: none was found")
    return {"license": "unknown"}


def _of_hub(repo: str, way: _Way) -> None:
    whole = Source(name="target", path=repo, domain=domain_of(repo))
    try:
        told = hub.structure(whole)
    except SourceError as error:
        raise SourceError(error.what, where="SOURCES", got=repo, hint=error.hint) from None
    subset = told.subsets[0] if len(told.subsets) > 1 else None
    for name in track(told.splits, f"look into {repo}", unit="splits"):
        source = whole.model_copy(update={"revision": told.commit, "subset": subset, "split": name, "license": "from_row"})
        first = way.work / f"{len(list(way.work.iterdir())):04}.parquet"
        hub.lay_first(source, ROWS_OF_HUB, first)
        look = replace(way.look(source, [first]), rows=None, is_exact=False)
        others = f"; other subsets: {', '.join(told.subsets[1:])}" if subset else ""
        notes = [f"the Hub's split {name}{others}"]
        fields = {"path": repo, "domain": whole.domain, "revision": told.commit, "split": name}
        fields |= {"subset": subset} if subset else {}
        word = None if told.license is None else (told.license, "its card")
        fields |= _license(look, word, notes)
        guess = guesses(Path(), [Path(f"{name}.parquet")])[0]
        way.found.append(Found(fields, look, guess.split, notes=tuple(notes)))


def _settled(found: Sequence[Found]) -> list[Found]:
    """Say what everything is used for, once all is known."""
    usable = [each for each in found if each.look.stats["samples"] and not each.is_benchmark]
    talks = [each for each in usable if not each.is_text] or usable  # where there are only documents, they are trained on
    train = [each for each in talks if each.split == "train"] or talks  # where nothing is called so, all of it
    domains = {each.domain for each in train}
    checked = {each.domain for each in usable if each.split == "validation"}
    return [each if any(each is other for other in train) else _beside(each, domains, checked) for each in found]


def _beside(each: Found, domains: set[str], checked: set[str]) -> Found:
    """Return what is not trained on with its use."""
    is_known, is_named = each.domain in domains, each.split != "train"
    if each.is_benchmark or (is_named and not is_known):
        why = "a benchmark" if each.is_benchmark else f"{each.split} rows of a domain that is not trained on"
        return replace(each, use="evaluation", notes=(f"by its name {why}",))
    if not each.look.stats["samples"]:
        return replace(each, use="none", notes=(_why_not(each),))
    if is_named:
        use: Use = "evaluation" if each.split == "test" and each.domain in checked else "validation"
        return replace(each, use=use, notes=(*each.notes, f"by its name {each.split} rows"))
    if is_known:
        return replace(each, use="reference", notes=(*each.notes, "plain text, shown to the judge; role: target trains on it"))
    return replace(each, use="none", notes=("plain text of a domain without questions; role: target trains on it",))


def _why_not(each: Found) -> str:
    dropped: Mapping[str, int] = each.look.stats["dropped"]
    if not each.look.looked_into:
        return "too large to be looked into: it can only be read whole"
    if not dropped:
        return "no rows"
    told = ", ".join(f"{n} {reason}" for reason, n in dropped.items())
    return f"no row can be used ({told}); its fields: {_listed(each.look.first) or 'none'}"


def _listed(row: Mapping[str, Any]) -> str:
    return ", ".join(list(row)[:12])


def _named(found: Sequence[Found]) -> list[Found]:
    """Return what was found with names that differ: the domain, with the use where it is no target."""
    out: list[Found] = []
    taken: set[str] = set()
    for each in found:
        beside = each.use if each.split == "train" else each.split
        stem = each.domain if each.use in ("target", "none") else f"{each.domain}-{beside}"
        name = next(name for i in range(len(taken) + 1) if (name := stem if not i else f"{stem}-{i + 1}") not in taken)
        taken.add(name)
        out.append(replace(each, fields={"name": name, **each.fields}))
    return out
