"""Errors are one line each, and the tree gives the exit codes."""

from __future__ import annotations

import pytest

from composer import errors


@pytest.mark.parametrize(
    ("kind", "code"),
    [(errors.SpecError, 2), (errors.SourceError, 2), (errors.ModelError, 2), (errors.CheckError, 1), (errors.StoreError, 3)],
)
def test_exit_codes(kind: type[errors.ComposerError], code: int) -> None:
    assert kind("x").exit_code == code


def test_a_message_is_one_line_whatever_comes_in() -> None:
    text = str(errors.SourceError("broken\nrow", where="a.jsonl:3", expected="JSON", got="{\n", hint="mend\tit"))
    assert text == "a.jsonl:3: broken row; expected JSON; got {; mend it"


def test_within_puts_the_path_in_front_and_keeps_the_kind() -> None:
    error = errors.SpecError("unknown", where="name").within("judge").within("probe")
    assert isinstance(error, errors.SpecError)
    assert str(error) == "probe.judge.name: unknown"


def test_zero_is_a_value_that_came() -> None:
    assert str(errors.SpecError("bad", got=0)) == "bad; got 0"
