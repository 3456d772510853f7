"""Spec, the frozen base of every config, and what follows from a config: its identity and its randomness.

A Spec refuses unknown fields by name. Its identity is canonical JSON without the fields that say where or how fast a thing is
made (``outside_identity``), so that a key never changes with a path, a batch size or a machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from composer.errors import SpecError, nearest
from composer.secrets import without_secrets

if TYPE_CHECKING:
    import numpy as np

_OUTSIDE = {"outside_identity": True}
_REFUSED: Final = "refused"


class Spec(BaseModel):
    """The frozen base of every config: unknown fields are refused by name, values are compared by content.

    Raises
    ------
    SpecError
        On an unknown field, a missing field or a wrong value, with the field's path.

    Examples
    --------
    >>> class Law(Spec):
    ...     floor: float = 0.0
    >>> Law(floor=0.1).identity()
    {'floor': 0.1}
    >>> Law(flor=0.1)
    Traceback (most recent call last):
    composer.errors.SpecError: flor: unknown field of Law; did you mean 'floor'?
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, serialize_by_alias=True)

    def __init__(self, /, **data: Any) -> None:
        try:
            self.__pydantic_validator__.validate_python(data, self_instance=self)
        except ValidationError as error:
            raise _spec_error(type(self), error) from None

    # Nested Specs are then validated in place, so that an error carries its whole path.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validate as pydantic does; what is refused at any depth comes up as a SpecError with its path from here."""

        def read(value: Any, inner: ValidatorFunctionWrapHandler) -> Any:
            try:
                return inner(value)
            except ValidationError as error:
                told = _spec_error(cls, error)
            except SpecError as error:  # of a check of its own
                told = error
            raise PydanticCustomError(_REFUSED, "refused", {"error": told})

        return core_schema.no_info_wrap_validator_function(read, handler(source))

    def identity(self) -> dict[str, Any]:
        """Return what bears identity, as plain JSON values; fields made with ``outside_identity`` are left out."""
        fields = type(self).model_fields
        return {
            fields[name].alias or name: plain(getattr(self, name))
            for name in fields
            if not (isinstance(extra := fields[name].json_schema_extra, dict) and extra.get("outside_identity"))
        }


class OnModel(Spec):
    """A spec that names a model, a folder or a Hub id, as ``model``; once its content is known, that bears identity instead."""

    content: str | None = None

    def identity(self) -> dict[str, Any]:
        """Return what bears identity; of a model it is the content, where that is known."""
        found = super().identity()
        content = found.pop("content")
        return found if content is None else {**found, "model": content}


def _spec_error(cls: type[Spec], error: ValidationError) -> SpecError:
    first = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"]]
    where = ".".join(path)
    if first["type"] == _REFUSED:
        refused: SpecError = first["ctx"]["error"]
        return refused.within(where) if where else refused
    if first["type"] == "extra_forbidden":
        return SpecError(f"unknown field of {cls.__name__}", where=where, hint=nearest(path[-1], cls.model_fields))
    if first["type"] == "missing":
        return SpecError(f"missing field of {cls.__name__}", where=where, hint=f"set {where}")
    message = first["msg"].removeprefix("Value error, ")
    return SpecError(message[:1].lower() + message[1:], where=where, got=repr(first["input"])[:120])


def refuse_secrets(value: Any, *, where: str = "") -> None:
    """Refuse plain values that hold a secret (:mod:`composer.secrets`), which keys, cards, logs and pages would show.

    Raises
    ------
    SpecError
        With the place of the secret and not the secret.

    Examples
    --------
    >>> refuse_secrets({"sources": [{"path": "https://jo:pw@host/rows.jsonl"}]})  # pragma: allowlist secret
    Traceback (most recent call last):
    composer.errors.SpecError: sources.0.path: a secret; expected none in a recipe or URL; ...
    """
    if isinstance(value, Mapping):
        for name, item in value.items():
            refuse_secrets(str(name), where=where)
            refuse_secrets(item, where=f"{where}.{name}" if where else str(name))
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            refuse_secrets(item, where=f"{where}.{i}" if where else str(i))
    elif isinstance(value, str) and without_secrets(value) != value:
        hint = "put it into the environment: HF_TOKEN, AWS_SECRET_ACCESS_KEY, or the variable that engine.api_key_env names"
        raise SpecError("a secret", where=where, expected="none in a recipe or URL", hint=hint)


def outside_identity(default: Any, **rules: Any) -> Any:
    """Return a field that does not enter a key: a path, a machine, a batch size, a thread count."""
    return Field(default=default, json_schema_extra=dict(_OUTSIDE), **rules)


def plain(value: Any) -> Any:
    """Return ``value`` as plain JSON values, with every Spec reduced to its identity.

    Examples
    --------
    >>> plain((1, {"b": 2.0}))
    [1, {'b': 2.0}]
    """
    if isinstance(value, Spec):
        return value.identity()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(plain(item) for item in value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"no identity for a {type(value).__name__}: expected a Spec or plain JSON values")


def canonical(value: Any) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces, no NaN.

    Examples
    --------
    >>> canonical({"b": 1, "a": (0.5, "é")})
    '{"a":[0.5,"é"],"b":1}'
    """
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any, *, n_bytes: int = 8) -> str:
    """Return the blake2b hex digest of a value's canonical JSON (16 hex digits unless told).

    Examples
    --------
    >>> digest({"a": 1}) == digest({"a": 1}), len(digest("x"))
    (True, 16)
    """
    return hashlib.blake2b(canonical(value).encode(), digest_size=n_bytes).hexdigest()


def rng(seed: int, *labels: str | int) -> np.random.Generator:
    """Return the generator that belongs to a seed and a path of labels; no global state is read or set.

    Examples
    --------
    >>> bool(rng(7, "compose", "law").integers(100) == rng(7, "compose", "law").integers(100))
    True
    """
    import numpy as np

    state = hashlib.blake2b(canonical([seed, *labels]).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(state, dtype=np.uint64)))


def seed_of(seed: int, *labels: str | int) -> int:
    """Return a 31-bit integer seed for libraries that want one, derived as :func:`rng` derives its state."""
    return int.from_bytes(hashlib.blake2b(canonical([seed, *labels]).encode(), digest_size=4).digest()) >> 1


S = TypeVar("S", bound=Spec)


def member(value: object, family: Mapping[str, type[S]], *, kind: str) -> S:
    """Return the family member that a recipe's word (``"uniform"``) or mapping (``{name: uniform, ...}``) names.

    Raises
    ------
    SpecError
        For an unknown word (the known ones and the nearest are listed) or a mapping without a name.
    """
    if isinstance(value, Spec):
        if type(value) not in family.values():
            raise SpecError(f"names no {kind}", got=type(value).__name__, expected=", ".join(sorted(family)))
        return value  # type: ignore[return-value]
    fields = {"name": value} if isinstance(value, str) else value
    if not isinstance(fields, Mapping) or not isinstance(fields.get("name"), str):
        expected = f"{' or '.join(sorted(family))}, or a mapping such as {{name: {sorted(family)[0]}}}"
        raise SpecError(f"names no {kind}", expected=expected, got=repr(value)[:80])
    word = fields["name"]
    if word not in family:
        raise SpecError(f"unknown {kind} '{word}'", where="name", hint=nearest(word, family))
    return family[word](**fields)


def member_of(family: Mapping[str, type[Any]], *, kind: str) -> Any:
    """Return the annotation of a field that holds one member of a family (see :func:`member`)."""

    def read(value: object, info: ValidationInfo) -> Any:
        try:
            return None if value is None else member(value, family, kind=kind)
        except SpecError as error:
            raise error.within(info.field_name or kind) from None

    return Annotated[SerializeAsAny[Spec], BeforeValidator(read)]


def members_of(family: Mapping[str, type[Any]], *, kind: str) -> Any:
    """Return the annotation of a field that holds a tuple of members of a family."""

    def read(value: object, info: ValidationInfo) -> Any:
        items = value if isinstance(value, (list, tuple)) else [value]
        out: list[Spec] = []
        for i, item in enumerate(items):
            try:
                out.append(member(item, family, kind=kind))
            except SpecError as error:
                raise error.within(f"{info.field_name}.{i}") from None
        return tuple(out)

    return Annotated[tuple[SerializeAsAny[Spec], ...], BeforeValidator(read)]
