"""YAML as recipes are written in it, and ``key=value`` overrides of what it says.

Only plain values come out of it, never objects, and as many as were written: an alias may repeat what stands above it, but
not so often that a few lines become millions of values.
"""

from __future__ import annotations

from typing import Any

import yaml

from composer.errors import InputError, SpecError

MOST_VALUES = 100_000
"""Values that a text may have, aliases followed."""


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice, where YAML would keep the last in silence, and aliases that swell."""

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        if node is not None and _n_values(node, {}) > MOST_VALUES:
            raise yaml.constructor.ConstructorError(None, None, f"more than {MOST_VALUES:,} values", node.start_mark)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: list[Any] = []  # a key may be unhashable, which the loader below names
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' is given twice", key_node.start_mark)
            seen.append(key)
        return super().construct_mapping(node, deep)


def _n_values(node: yaml.Node, seen: dict[int, int]) -> int:
    """Return how many values a node stands for; what an alias repeats counts each time, and what holds itself is endless."""
    if id(node) not in seen:
        seen[id(node)] = MOST_VALUES + 1  # until it is counted: an alias inside would find this
        inner = [] if isinstance(node, yaml.ScalarNode) else node.value
        parts = [part for each in inner for part in (each if isinstance(each, tuple) else (each,))]
        seen[id(node)] = 1 + sum(_n_values(part, seen) for part in parts)
    return seen[id(node)]


def _read(text: str) -> Any:
    """Return what YAML says in plain values.

    Raises
    ------
    SpecError
        With the line, where it is broken.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a subclass of SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}" if mark else "somewhere"
        raise SpecError(f"broken YAML: {getattr(error, 'problem', None) or 'not YAML'}", where=line) from None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:  # such as a date that is none
        raise SpecError(f"broken YAML: {str(error)[:100] or type(error).__name__}", where="somewhere") from None


def parse(text: str) -> dict[str, Any]:
    """Parse YAML safely into a mapping, or say in which line it is broken."""
    data = _read(text)
    if not isinstance(data, dict):
        raise SpecError("not a recipe", expected="a mapping with name, base_model, sources ...", got=type(data).__name__)
    return data


def override_with(data: dict[str, Any], override: str) -> dict[str, Any]:
    """Return the data with one ``key=value`` set; the value is YAML, list items are named by number.

    Examples
    --------
    >>> override_with({"law": {"name": "knowledge"}}, "law.floor=0.1")
    {'law': {'name': 'knowledge', 'floor': 0.1}}
    """
    return set_at(data, *override_of(override))


def override_of(override: str) -> tuple[str, Any]:
    """Return the key and the value that ``key=value`` gives.

    Examples
    --------
    >>> override_of("law={name: knowledge, floor: 0.1}")
    ('law', {'name': 'knowledge', 'floor': 0.1})
    """
    key, sign, value = override.partition("=")
    if not sign or not key:
        raise InputError("not an override", got=override, expected="key=value, such as law.floor=0.05")
    try:
        parsed = _read(value)
    except SpecError:
        raise InputError("the value of an override is not YAML", where=key, got=value) from None
    return key, parsed


def set_at(data: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Return the data with the value of one dotted key set; see :func:`override_with`."""
    out: Any = _set(data, key.split("."), value, key)
    return dict(out)


def _set(data: Any, path: list[str], value: Any, key: str) -> Any:
    if not path:
        return value
    if isinstance(data, list):
        if not path[0].isdigit() or int(path[0]) >= len(data):
            raise InputError("no such list item", where=key, expected=f"0 to {len(data) - 1}", got=path[0])
        return [_set(item, path[1:], value, key) if i == int(path[0]) else item for i, item in enumerate(data)]
    if isinstance(data, str) and path:  # a family's word gets fields: {name: word, field: value}
        data = {"name": data}
    return {**(data or {}), path[0]: _set((data or {}).get(path[0]), path[1:], value, key)}
