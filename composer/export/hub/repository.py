"""A repository on the Hub, and what every talk with the Hub may fail at, said in one line.

The token is the Hub's own affair: ``HF_TOKEN`` or what ``hf auth login`` left. It is never taken from a recipe or an option,
and what servers and libraries say is cleared of it before it is shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from composer.errors import ComposerError, FaultError, InputError
from composer.secrets import without_secrets

AGAIN = "what was sent stays; run the same again, and only what is missing is sent"
LOGIN = "set HF_TOKEN, or run hf auth login, with a token that may write"
_QUERY = re.compile(r"(https?://[^\s?'\"]+)\?[^\s'\"]*")


@dataclass(frozen=True)
class Repository:
    """``name`` is ``org/name``; ``revision`` the branch to push to."""

    name: str
    kind: Literal["dataset", "model"] = "dataset"
    revision: str = "main"

    def __post_init__(self) -> None:
        from huggingface_hub.errors import HFValidationError
        from huggingface_hub.utils._validators import validate_repo_id

        expected = "org/name, of letters, digits, '-', '_' and '.'"
        try:
            validate_repo_id(self.name)
        except HFValidationError:
            raise InputError("no name of a repository", where="--hub", expected=expected, got=self.name) from None
        if self.name.count("/") != 1:
            raise InputError("no name of a repository", where="--hub", expected=expected, got=self.name)
        if not re.fullmatch(r"[\w.-]+(/[\w.-]+)*", self.revision) or re.fullmatch(r"[0-9a-f]{40}", self.revision):
            raise InputError("no branch", where="--revision", expected="the name of a branch", got=self.revision)

    @cached_property
    def api(self) -> Any:
        """The Hub's client."""
        from huggingface_hub import HfApi

        return HfApi(library_name="sft-composer")

    @property
    def at(self) -> dict[str, str]:
        """How the client's calls name it."""
        return {"repo_id": self.name, "repo_type": self.kind}

    @property
    def url(self) -> str:
        """Where people look at it."""
        below = "datasets/" if self.kind == "dataset" else ""
        tree = "" if self.revision == "main" else f"/tree/{self.revision}"
        return f"{self.api.endpoint}/{below}{self.name}{tree}"


def is_offline() -> bool:
    """Return whether the Hub's client was told to stay offline."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def has_token() -> bool:
    """Return whether the Hub's client has a token to send."""
    from huggingface_hub import get_token

    return bool(get_token())


def check_ready() -> None:
    """Refuse to begin what cannot be sent.

    Raises
    ------
    InputError
        Where the client is told to stay offline, or nobody is logged in.
    """
    if is_offline():
        hint = "unset HF_HUB_OFFLINE (and TRANSFORMERS_OFFLINE), or look first with --dry-run"
        raise InputError("the Hub's client is told to stay offline", where="HF_HUB_OFFLINE", hint=hint)
    with told_plainly("asking for a token"):
        if not has_token():
            raise InputError("nobody is logged in to the Hub", where="HF_TOKEN", hint=LOGIN)


@contextmanager
def told_plainly(doing: str, *, where: str = "--hub") -> Iterator[None]:
    """Turn whatever the client raises into one error of ours.

    Raises
    ------
    InputError
        Where the user can mend it: not logged in, not allowed, not there, refused as it is.
    FaultError
        Where the connection or the Hub failed, or the repository changed meanwhile.
    """
    try:
        yield
    except ComposerError:
        raise
    except Exception as error:  # errors of four trees come out of the client
        raise _plain(error, doing, where) from None


def _plain(error: Exception, doing: str, where: str) -> ComposerError:
    from huggingface_hub.errors import LocalTokenNotFoundError, OfflineModeIsEnabled

    root = _root(error)
    status = getattr(getattr(root, "response", None), "status_code", None)
    cause = clean(root)
    if isinstance(root, LocalTokenNotFoundError) or status == 401:
        return InputError(f"the Hub knows no such user or token, {doing}", where=where, got=cause, hint=LOGIN)
    if isinstance(root, OfflineModeIsEnabled):
        return InputError(f"the client stays offline, {doing}", where="HF_HUB_OFFLINE", hint="unset HF_HUB_OFFLINE")
    if status == 403:
        hint = "use a token that may write to this name, or another name"
        return InputError(f"not allowed, {doing}", where=where, got=cause, hint=hint)
    if status == 404:
        return InputError(f"not there, {doing}", where=where, got=cause, hint="check the name, and what the token may see")
    if status in (409, 412):
        return FaultError(
            f"the repository changed meanwhile, or one of this name is hidden from the token, {doing}",
            where=where,
            got=cause,
            hint="run the same again",
        )
    if status in (400, 413, 422) or (isinstance(root, ValueError) and "README.md" in str(root)):
        return InputError(f"the Hub refuses it, {doing}", where=where, got=cause)
    return FaultError(f"the connection or the Hub failed, {doing}", where=where, got=cause, hint=AGAIN)


def _root(error: BaseException) -> BaseException:
    """Return the error that another was raised from: the client wraps those of its threads."""
    while type(error) is RuntimeError and error.__cause__ is not None:
        error = error.__cause__
    return error


def clean(error: BaseException) -> str:
    """Return what an error says in one line, cleaned."""
    return cleaned(" ".join(str(error).split()) or type(error).__name__)[:240]


def cleaned(text: str) -> str:
    """Return a text without a secret and without what follows a web address's question mark."""
    return _QUERY.sub(r"\1", without_secrets(text))
