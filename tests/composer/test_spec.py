"""Specs refuse what they do not know, and identity depends on content alone."""

from __future__ import annotations

import subprocess
import sys
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import model_validator

from composer.errors import SpecError
from composer.spec import Spec, canonical, digest, member, member_of, members_of, outside_identity, plain, rng, seed_of


class Red(Spec):
    name: Literal["red"] = "red"
    depth: float = 0.5
    path: str = outside_identity("here")


class Blue(Spec):
    name: Literal["blue"] = "blue"


FAMILY = {"red": Red, "blue": Blue}


class Room(Spec):
    wall: member_of(FAMILY, kind="colour") = "red"  # type: ignore[valid-type]
    doors: members_of(FAMILY, kind="colour") = ()  # type: ignore[valid-type]
    size: int = 1


class House(Spec):
    room: Room = Room()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(JSON)
@settings(max_examples=60, deadline=None)
def test_canonical_is_stable_and_blind_to_the_order_of_keys(value: object) -> None:
    def turned(each: object) -> object:
        if isinstance(each, dict):
            return {key: turned(item) for key, item in reversed(each.items())}
        return [turned(item) for item in each] if isinstance(each, list) else each

    assert canonical(value) == canonical(turned(value))
    assert digest(value) == digest(turned(value))


def test_an_unknown_field_is_refused_by_name_with_the_nearest() -> None:
    with pytest.raises(SpecError, match=r"depht: unknown field of Red; did you mean 'depth'\?"):
        Red(depht=1)


def test_errors_carry_their_whole_path() -> None:
    with pytest.raises(SpecError, match=r"^wall\.depht: unknown field"):
        Room(wall={"name": "red", "depht": 1})
    with pytest.raises(SpecError, match=r"^doors\.1\.name: unknown colour 'rde'; did you mean 'red'"):
        Room(doors=["blue", "rde"])
    with pytest.raises(SpecError, match=r"^room\.size: .*got 'big'"):
        House(room={"size": "big"})


class Pair(Spec):
    low: int = 0
    high: int = 1

    @model_validator(mode="after")
    def _check(self) -> Pair:
        if self.low > self.high:
            raise SpecError("the wrong way round", where="low", got=self.low, hint="turn them")
        return self


class Pairs(Spec):
    first: Pair = Pair()
    others: tuple[Pair, ...] = ()


def test_what_a_nested_check_refuses_carries_its_path_and_all_that_it_says() -> None:
    for wrong, where in (({"first": {"low": 2}}, "first"), ({"others": [{}, {"low": 2}]}, "others.1")):
        with pytest.raises(SpecError, match=rf"^{where}\.low: the wrong way round; got 2; turn them$"):
            Pairs(**wrong)
    with pytest.raises(SpecError, match=r"^low: the wrong way round"):
        Pair(low=2)
    with pytest.raises(SpecError, match=r"^first\.hihg: unknown field of Pair; did you mean 'high'\?"):
        Pairs(first={"hihg": 1})


@pytest.mark.parametrize("value", [3, {"depth": 1}, {"name": 3}, []])
def test_a_member_needs_a_name(value: object) -> None:
    with pytest.raises(SpecError, match="names no colour; expected blue or red, or a mapping"):
        member(value, FAMILY, kind="colour")


def test_a_word_and_a_mapping_name_the_same_member() -> None:
    assert member("red", FAMILY, kind="colour") == member({"name": "red"}, FAMILY, kind="colour") == Red()
    assert Room(wall="blue").wall == Blue()


def test_identity_leaves_out_what_lies_outside_it() -> None:
    assert Red(path="a").identity() == Red(path="b").identity() == {"name": "red", "depth": 0.5}
    assert Room(wall=Red(path="x")).identity()["wall"] == {"name": "red", "depth": 0.5}
    assert Red(depth=0.4).identity() != Red().identity()


def test_specs_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Red().depth = 1.0  # type: ignore[misc]


def test_what_has_no_identity_is_refused() -> None:
    with pytest.raises(TypeError, match="no identity for a object"):
        plain(object())
    with pytest.raises(ValueError, match="Out of range float values"):
        canonical(float("nan"))


def test_randomness_follows_seed_and_labels() -> None:
    draws = {tuple(rng(*each).integers(2**31, size=3).tolist()) for each in [(1, "a"), (1, "b"), (2, "a"), (1, "a", "b")]}
    assert len(draws) == 4
    assert rng(1, "a").random() == rng(1, "a").random()
    assert 0 <= seed_of(1, "a") < 2**31
    assert seed_of(1, "a") != seed_of(1, "b")


def test_golden_digest() -> None:
    """A change of this key would orphan every store that exists."""
    expected = "a5cee3d077608eb6"  # pragma: allowlist secret
    assert digest({"kind": "mixture", "law": {"floor": 0.02, "name": "knowledge"}}) == expected


def test_importing_composer_stays_light() -> None:
    code = "import composer, sys; print(sorted({'torch', 'polars', 'numpy', 'transformers', 'pydantic'} & set(sys.modules)))"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "[]"
    timed = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import composer"], capture_output=True, text=True, check=True
    )
    cumulative = [int(line.split("|")[1]) for line in timed.stderr.splitlines() if line.endswith("| composer")]
    assert cumulative
    assert cumulative[0] < 500_000  # microseconds
