"""Arms: a name and what it changes of the recipe, as the command line or the recipe says it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from composer.errors import InputError, SpecError
from composer.spec import Spec
from flows.recipe import Recipe
from flows.yaml_text import override_of, set_at


class Arm(Spec):
    """One way to run the recipe; ``why`` says what a control is there for, and is empty of an arm that is judged."""

    name: str
    changes: dict[str, Any] = {}
    why: str = ""

    @property
    def is_control(self) -> bool:
        """Whether others are judged beside it."""
        return bool(self.why)

    def of(self, fields: Mapping[str, Any], *, seed: int | None = None) -> Recipe:
        """Return the recipe of this arm, from the fields of the trial's.

        Raises
        ------
        SpecError
            For a change that the recipe does not take, with the arm's name.
        """
        changed = dict(fields)
        for key, value in {**self.changes, **({} if seed is None else {"seed": seed})}.items():
            changed = set_at(changed, key, value)
        try:
            return Recipe(**changed)
        except SpecError as error:
            raise error.within(f"arm '{self.name}'") from None

    def __str__(self) -> str:
        """Return what it changes, in words.

        Examples
        --------
        >>> print(Arm(name="hot", changes={"train.learning_rate": 0.001, "law": {"name": "uniform"}}))
        train.learning_rate=0.001 law={name: uniform}
        """
        return " ".join(f"{key}={_text(value)}" for key, value in self.changes.items()) or "(the recipe)"


def read_arm(text: str) -> Arm:
    """Return the arm of ``NAME key=value key=value``; without changes it is the recipe as it stands.

    Raises
    ------
    InputError
        For a text without a name, or a change that is none.

    Examples
    --------
    >>> read_arm("hot train.learning_rate=0.001 'law={name: knowledge, floor: 0.1}'").changes
    {'train.learning_rate': 0.001, 'law': {'name': 'knowledge', 'floor': 0.1}}
    """
    words = shlex.split(text)
    if not words or "=" in words[0]:
        raise InputError("an arm without a name", where="--arm", got=text, expected="NAME key=value, such as hot law=uniform")
    return Arm(name=words[0], changes=dict(override_of(word) for word in words[1:]))


def read_arms(text: str) -> tuple[Arm, ...]:
    """Return an arm for every value of ``key=value,value``.

    Raises
    ------
    InputError
        For a text that is no list.

    Examples
    --------
    >>> [(arm.name, arm.changes) for arm in read_arms("law=inverse,{name: knowledge, floor: 0.1}")]
    [('inverse', {'law': 'inverse'}), ('knowledge floor 0.1', {'law': {'name': 'knowledge', 'floor': 0.1}})]
    >>> [arm.name for arm in read_arms("train.learning_rate=0.001,0.0001")]
    ['learning_rate 0.001', 'learning_rate 0.0001']
    """
    key, sign, listed = text.partition("=")
    try:
        values = yaml.safe_load(f"[{listed}]") if sign and key else []
    except yaml.YAMLError:
        values = []
    if not values:
        raise InputError("no list of arms", where="--arms", got=text, expected="key=value,value, such as law=inverse,knowledge")
    return tuple(Arm(name=_name(key, value), changes={key: value}) for value in values)


def gathered(arms: Sequence[Arm]) -> tuple[Arm, ...]:
    """Return the arms, controls among them, or say that a name is given twice."""
    names = [arm.name for arm in arms]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError("two arms share a name", where="arms", got=", ".join(twice), hint="controls have names, too")
    return tuple(arms)


def _name(key: str, value: Any) -> str:
    if isinstance(value, Mapping):
        words = [f"{field} {each}" for field, each in value.items() if field != "name"]
        return " ".join([str(value.get("name", key)), *words])
    return value if isinstance(value, str) else f"{key.rpartition('.')[2]} {value}"


def _text(value: Any) -> str:
    flow = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1_000)
    return flow.removesuffix("\n").removesuffix("\n...")
