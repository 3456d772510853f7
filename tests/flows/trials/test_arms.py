"""Arms as the command line says them."""

from __future__ import annotations

import pytest

from composer.errors import InputError
from flows.trials.arms import Arm, read_arm, read_arms


def test_arms_are_read_from_words() -> None:
    assert read_arm("recipe") == Arm(name="recipe")
    for text in ("", "law=uniform"):
        with pytest.raises(InputError, match="an arm without a name"):
            read_arm(text)
    for text in ("law", "law=", "=uniform", "law={name: uniform"):
        with pytest.raises(InputError, match="no list of arms"):
            read_arms(text)
