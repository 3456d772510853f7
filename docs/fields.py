"""What the reference pages say of a spec: its fields, what they mean and what they may be, read off the models.

What a field means is the sentence of its class's docstring that names it, or, where no sentence does, a line of
``fields.yaml``. A field of which neither says anything stops the writing of the documents.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from composer.spec import Spec

FAMILY_OF = {
    "Classifier.features": "embed",
    "Train.adapter": "train.adapter",
    "Train.law": "train.law",
    "Recipe.replay_select": "select",
}
"""Fields that hold a word of a family of another name."""
FILLED = "content"
"""A field that no recipe sets: what a model or a file holds, once it is known."""
PLAIN = {str: "text", int: "whole number", float: "number", bool: "true or false", Any: "anything", types.NoneType: "`null`"}
BOUNDS = {
    Ge: ("at least", "ge"),
    Gt: ("above", "gt"),
    Le: ("at most", "le"),
    Lt: ("below", "lt"),
    MinLen: ("at least", "min_length"),
}
NAMES = r"^[\w.-]+$"


@cache
def written() -> Mapping[str, str]:
    """Return the meanings that no docstring states, by class and field."""
    told: Mapping[str, str] = yaml.safe_load((Path(__file__).parent / "fields.yaml").read_text(encoding="utf-8"))
    return told


def paragraphs(cls: type) -> list[str]:
    """Return the paragraphs of a class's docstring before its first section, as Markdown."""
    text = re.split(r"\n[A-Z]\w+\n-{3,}", inspect.getdoc(cls) or "")[0]
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text).replace("``", "`")
    return [" ".join(part.split()) for part in text.split("\n\n")]


def lineage(cls: type[Spec]) -> Iterator[type[Spec]]:
    """Return a spec and the specs that it is made from, nearest first."""
    return (each for each in cls.__mro__ if issubclass(each, Spec) and each is not Spec)


def meaning(cls: type[Spec], field: str) -> str:
    """Return what a field of a spec means.

    Raises
    ------
    SystemExit
        Where nothing says it.
    """
    for each in lineage(cls):
        if told := written().get(f"{each.__name__}.{field}"):
            return told
        for sentence in (each for part in paragraphs(each) for each in re.split(r"(?<=\.) (?=[A-Z`])", part)):
            if re.search(rf"`{field}(: [^`]+)?`", sentence):
                return sentence
    raise SystemExit(
        f"{cls.__module__}: nothing says what {cls.__name__}.{field} means: name it in the docstring, or in docs/fields.yaml"
    )


def leaves(annotation: Any) -> Iterator[Any]:
    """Return the classes that an annotation is made of."""
    inner = () if get_origin(annotation) is Literal else get_args(annotation)
    if not inner:
        yield annotation
    for each in inner:
        yield from leaves(each)


def parts(specs: Iterable[type[Spec]], members: Iterable[type[Spec]]) -> list[type[Spec]]:
    """Return the specs and, once each, those within them that are of no family, in the order of their fields."""
    found: dict[type[Spec], None] = {}
    of_family = set(members)

    def visit(cls: type[Spec]) -> None:
        if cls not in of_family:
            found.setdefault(cls)
        for info in cls.model_fields.values():
            for leaf in leaves(info.annotation):
                if isinstance(leaf, type) and issubclass(leaf, Spec) and leaf is not Spec and leaf not in found:
                    visit(leaf)

    for each in specs:
        visit(each)
    return list(found)


def kind(annotation: Any, *, family: str, where: Mapping[type[Spec], str]) -> str:
    """Return an annotation in words; ``where`` has the links of specs, and a bare spec is a word of the family."""
    origin, inner = get_origin(annotation), get_args(annotation)

    def of(each: Any) -> str:
        return kind(each, family=family, where=where)

    if origin is Literal:
        return " or ".join(f"`{value}`" for value in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(of(each) for each in inner)
    if origin is tuple:
        return "list of " + " and ".join(dict.fromkeys(of(each) for each in inner if each is not Ellipsis))
    if origin is not None and issubclass(origin, Mapping):
        return f"mapping to {of(inner[1])}"
    if origin is not None:
        return of(inner[0])
    if annotation is Spec:
        return f"[{family}]({page(family)})"
    return f"[{annotation.__name__}]({where[annotation]})" if annotation in where else PLAIN[annotation]


def page(family: str) -> str:
    """Return the file of a family's page."""
    return f"{family.replace('.', '_')}.md"


def default(info: FieldInfo) -> str:
    """Return a field's default as a recipe writes it."""
    value = info.get_default(call_default_factory=True)
    if value is PydanticUndefined or value is ...:
        return "required"
    if isinstance(value, Spec):
        return f"`{value.name}`" if "name" in type(value).model_fields else "its own"
    if value is None or isinstance(value, bool):
        return f"`{'null' if value is None else str(value).lower()}`"
    if isinstance(value, (tuple, list)):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{value}`" if value != "" else "empty"


def bounds(info: FieldInfo) -> list[str]:
    """Return what a field's value is held to, beside its type."""
    told = [
        f"{words} {getattr(each, name):g}"
        for each in info.metadata
        for of, (words, name) in BOUNDS.items()
        if isinstance(each, of)
    ]
    patterns = [each.pattern for each in info.metadata if getattr(each, "pattern", None)]
    return told + ["of letters, digits, `.`, `_` and `-`" if pattern == NAMES else f"as `{pattern}`" for pattern in patterns]


def table(cls: type[Spec], *, where: Mapping[type[Spec], str]) -> str:
    """Return the table of a spec's fields; a member's own name is left out."""
    lines = ["| field | what it is | default | meaning |", "| --- | --- | --- | --- |"]
    for field, info in cls.model_fields.items():
        if field == FILLED or info.annotation is types.NoneType or (field == "name" and get_origin(info.annotation) is Literal):
            continue
        what = kind(info.annotation, family=FAMILY_OF.get(f"{cls.__name__}.{field}", field), where=where)
        extra = info.json_schema_extra
        outside = isinstance(extra, dict) and bool(extra.get("outside_identity"))
        cells = [f"`{field}`", ", ".join([what, *bounds(info)]), default(info), meaning(cls, field)]
        lines.append(
            "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + (" (*no part of a key*) |" if outside else " |")
        )
    return "\n".join(lines) if len(lines) > 2 else "It has no fields."
