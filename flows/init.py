"""The command ``init``: a commented recipe from data as it lies."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from composer.errors import InputError, ModelError
from flows.command import DebugOption, JsonOption, begin, give, state

if TYPE_CHECKING:
    from flows.drafting import Draft, Found
    from flows.recipe_text import Lengths

SourcesArgument = Annotated[
    list[str], typer.Argument(metavar="SOURCES...", help="Folders, files, globs or Hub ids of data.", show_default=False)
]
ModelOption = Annotated[str | None, typer.Option("--base-model", help="A model folder or a Hub id (default: asked for).")]


def init(
    sources: SourcesArgument,
    base_model: ModelOption = None,
    out: Annotated[str, typer.Option(help="The file to write.")] = "recipe.yaml",
    name: Annotated[str | None, typer.Option(help="Name of the experiment (default: the first folder's).")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    as_json: JsonOption = False, debug: DebugOption = False,
) -> None:  # fmt: skip
    """Look at data and write a commented recipe for it."""
    begin(as_json, debug)
    from flows.drafting import draft

    file = Path(out)
    _check_file(file, force=force)
    model = base_model or (_ask() if _is_at_a_terminal() else None)
    _check_model(model)
    found = draft(sources)
    text, lengths = _text(found, sources, name=name, model=model)
    _write(file, text)
    document = _document(found, file, model, lengths)
    give(document, lambda: _show(document, found))


def _check_file(file: Path, *, force: bool) -> None:
    """Refuse before the look what could not be written after it.

    Raises
    ------
    InputError
        For a file that is there, or a folder that is not.
    """
    if file.exists() and not force:
        hint = "give another --out, or --force to write over it"
        raise InputError("the file is there already", where="--out", got=str(file), hint=hint)
    if not file.parent.is_dir():
        raise InputError("no such folder", where="--out", got=str(file.parent), hint=f"mkdir -p {file.parent}")


def _check_model(model: str | None) -> None:
    """Refuse what is neither a model folder nor written as a Hub id is.

    Raises
    ------
    ModelError
        Where it is neither.
    """
    from flows.models import HUB_ID

    if model is None or (Path(model) / "config.json").is_file():
        return
    if Path(model).exists() or not HUB_ID.fullmatch(model):
        expected = "a folder with config.json, or a Hub id"
        raise ModelError("no model at this path", where="--base-model", got=model, expected=expected)


def _is_at_a_terminal() -> bool:
    return not state.json and sys.stdin.isatty() and sys.stderr.isatty()


def _ask() -> str | None:
    """Return the model that a person names; one that lies near is proposed, and no answer leaves it open."""
    near = [path.parent for pattern in ("*/config.json", "models/*/config.json") for path in sorted(Path().glob(pattern))]
    default = str(near[0]) if near else ""
    given: str = typer.prompt("Base model, a folder or a Hub id; empty to fill it in later", default=default, err=True)
    return given.strip() or None


def _text(draft: Draft, sources: list[str], *, name: str | None, model: str | None) -> tuple[str, Lengths]:
    """Return the recipe's text, which our own reader takes, and the lengths that it states."""
    from flows.recipe import recipe_of
    from flows.recipe_text import lengths, recipe_text

    tokenizer, context = _of_model(model)
    found = lengths(draft, tokenizer)
    asked = f"sft-composer init {shlex.join(sources)}"
    text = recipe_text(draft, name=name or _called(sources[0]), model=model, found=found, context=context, asked=asked)
    recipe_of(text, where="the recipe that was drafted")
    return text, found


def _called(source: str) -> str:
    """Return a name for the experiment: that of the first source, or of this folder where it says nothing."""
    from flows.guess import UNNAMED, domain_of

    words = (domain_of(Path(source).resolve().stem), domain_of(Path.cwd().name))
    return next((word for word in words if word != UNNAMED), "mine")


def _of_model(model: str | None) -> tuple[Any, int | None]:
    """Return a model folder's tokenizer and how many tokens it reads at once; nothing of a model on the Hub."""
    if model is None or not Path(model).is_dir():
        return None, None
    from composer.encode import load_tokenizer

    config = json.loads((Path(model) / "config.json").read_text(encoding="utf-8"))
    context = config.get("max_position_embeddings")
    return load_tokenizer(model), context if isinstance(context, int) else None


def _write(file: Path, text: str) -> None:
    from composer.fingerprint import write_text

    try:
        write_text(file, text)
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", where="--out", got=str(file)) from None


def _document(draft: Draft, file: Path, model: str | None, lengths: Lengths) -> dict[str, Any]:
    return {
        "recipe": str(file), "base_model": model, "domains": list(draft.domains),
        "sources": [_row(each) for each in draft.found],
        "passed_over": [{"path": path, "why": why} for path, why in draft.passed_over],
        "tokens": {"usual": lengths.usual, "longest": lengths.longest, "counted": lengths.is_counted},
        "next": [f"sft-composer doctor {file}", f"sft-composer run {file} --dry-run"],
    }  # fmt: skip


def _row(each: Found) -> dict[str, Any]:
    return {
        **each.fields, "use": each.use, "rows": each.look.rows, "exact": each.look.is_exact, "files": each.look.n_files,
        "looked_into": each.look.looked_into, "looked_at": each.look.stats["seen"], "shapes": each.look.stats["shapes"],
        "dropped": each.look.stats["dropped"], "notes": list(each.notes),
    }  # fmt: skip


def _show(document: dict[str, Any], draft: Draft) -> None:
    from flows.screen import out, table

    rows = [
        (
            each["name"], "-" if each["use"] == "none" else each["use"], ", ".join(each["shapes"]) or "-",
            each.get("license", "-"), _count(each), each["looked_at"],
        )
        for each in document["sources"]
    ]  # fmt: skip
    columns = ("source", "use", "shape", "licence", "rows", "looked at")
    out.print(table("What was found, by a look at the beginning of every file", columns, rows, text=4))
    for each in draft.used("none"):
        out.print(f"left out: {each.fields['path']}: {'; '.join(each.notes)}", markup=False, soft_wrap=True)
    for path, why in draft.passed_over:
        out.print(f"passed over: {path}: {why}", markup=False, soft_wrap=True)
    if any(note.startswith("CHECK") for each in draft.found for note in each.notes):
        out.print(f"Some of it is guessed: look for CHECK in {document['recipe']}.", markup=False)
    if document["base_model"] is None:
        out.print(f"No base model was named: write its path into the line base_model of {document['recipe']}.", markup=False)
    out.print(f"written: {document['recipe']}; next:", markup=False, soft_wrap=True)
    for command in document["next"]:
        out.print(f"    {command}", markup=False, soft_wrap=True)


def _count(each: dict[str, Any]) -> str:
    if each["rows"] is None:
        return "?"
    return f"{each['rows']:,}" if each["exact"] else f"~{each['rows']:,}"


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(rich_help_panel="Start")(init)
