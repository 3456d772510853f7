"""Names are checked before anything is asked, and what the Hub's client raises comes out as one line without a token."""

from __future__ import annotations

import pytest

from composer.errors import ComposerError, FaultError, InputError
from composer.export.hub import Repository
from composer.export.hub.repository import clean, told_plainly

TOKEN = "secret-word-of-a-test"


@pytest.mark.parametrize(
    "name", ["name", "org/name/more", "org/na me", "/name", "org/", "../name", "org/name.git", "a" * 97 + "/b"]
)
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(InputError, match="no name of a repository; expected org/name"):
        Repository(name)


@pytest.mark.parametrize("revision", ["", "a b", "0" * 40, "/x"])
def test_branches_that_are_none(revision: str) -> None:
    with pytest.raises(InputError, match="--revision: no branch"):
        Repository("org/name", revision=revision)


def test_a_token_and_a_signature_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    told = clean(OSError(f"Bearer {TOKEN} hf_{'a' * 34} at https://x.org/a/b?X-Signature=1&c=2 'again'"))
    assert told == "Bearer *** *** at https://x.org/a/b 'again'"


def test_the_cause_in_a_thread_is_what_is_told() -> None:
    with (
        pytest.raises(FaultError, match="the connection or the Hub failed, sending; got cut; what was sent stays"),
        told_plainly("sending"),
    ):
        raise RuntimeError("Error while uploading") from OSError("cut")


def test_our_own_errors_pass() -> None:
    ours = InputError("mine")
    with pytest.raises(ComposerError) as caught, told_plainly("sending"):
        raise ours
    assert caught.value is ours
