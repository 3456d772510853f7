"""The push: large files first, stretch by stretch and streamed from disk, then one commit that shows them all at once.

A commit names the one that the plan was made for, so that nobody's change in between is lost. Where the Hub has a file's
content already, from a push that broke or under another name, it says so and the file is not sent again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from composer.errors import InputError, StoreError
from composer.export.hub.pieces import Piece
from composer.export.hub.plan import Plan
from composer.export.hub.repository import Repository, check_ready, cleaned, told_plainly
from composer.progress import bar

STRETCH = 64 << 20
"""Bytes of files that are sent before the bar moves, unless one is larger."""

MOST = 100
"""Files of a stretch."""


@dataclass(frozen=True)
class Pushed:
    """Where it is now, at which commit, and whether this push made that commit."""

    url: str
    commit: str
    is_new: bool


def push(plan: Plan, repository: Repository, *, message: str, public: bool = False) -> Pushed:
    """Bring a repository into the planned state; a new one is private unless it is to be ``public``.

    Raises
    ------
    InputError
        Where nobody is logged in or allowed to, or the repository that is there is public and that was not asked for.
    FaultError
        Where the connection breaks or somebody else pushed meanwhile; the repository is then as it was.
    StoreError
        Where a file is not what its manifest says.
    """
    check_ready()
    check_visibility(plan, public=public)
    if plan.changes_nothing and plan.state.head and plan.state.has_branch:
        return Pushed(repository.url, plan.state.head, is_new=False)
    head = _prepared(plan, repository, public=public)
    if plan.changes_nothing and head:  # a branch that begins with what it is to have
        return Pushed(repository.url, head, is_new=False)
    operations = _operations(plan)
    with (
        told_plainly(f"sending files to {repository.name}"),
        _quiet_client(),
        bar("push", total=_mb(plan.send), unit="MB") as shown,
    ):
        for stretch in _stretches(plan.send):
            additions = [operations[piece.path] for piece in stretch]
            repository.api.preupload_lfs_files(repository.name, additions, **_where(repository))
            _check_sent(stretch, additions)
            shown.advance(_mb(stretch))
    with told_plainly(f"committing to {repository.name}"), _quiet_client():
        made = repository.api.create_commit(
            repository.name, list(operations.values()), commit_message=message, parent_commit=head, **_where(repository)
        )
    return Pushed(repository.url, str(made.oid), is_new=True)


def check_visibility(plan: Plan, *, public: bool) -> None:
    """Refuse to show to everybody what was not asked to be public.

    Raises
    ------
    InputError
        Where the repository is public and ``public`` is not set.
    """
    if plan.state.is_there and plan.state.is_private is False and not public:
        hint = "say --public if everybody may read this, or push to another repository"
        raise InputError("the repository is public", where="--hub", expected="a private one", hint=hint)


def _prepared(plan: Plan, repository: Repository, *, public: bool) -> str | None:
    """Make the repository and the branch where they are missing; return the commit to build on."""
    state, api = plan.state, repository.api
    with told_plainly(f"creating {repository.name}"):
        if not state.is_there:
            api.create_repo(**repository.at, private=not public)
        if repository.revision != "main" and not state.has_branch:
            api.create_branch(**repository.at, branch=repository.revision, exist_ok=True)
        if state.head:
            return state.head
        return api.repo_info(**repository.at, revision=repository.revision).sha  # type: ignore[no-any-return]


def _operations(plan: Plan) -> dict[str, Any]:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    out: dict[str, Any] = {}
    for piece in plan.send:
        content = piece.content if isinstance(piece.content, bytes) else str(piece.content)
        out[piece.path] = CommitOperationAdd(path_in_repo=piece.path, path_or_fileobj=content)
    return out | {path: CommitOperationDelete(path_in_repo=path, is_folder=False) for path in plan.remove}


def _check_sent(pieces: Sequence[Piece], additions: Sequence[Any]) -> None:
    """Refuse to show what is not what its manifest says; the client has hashed what it sent."""
    for piece, addition in zip(pieces, additions, strict=True):
        if (found := addition.upload_info.sha256.hex()) != piece.sha256:
            hint = "see sft-composer verify; remove the artifact and make it again"
            raise StoreError(
                "a file is not what its manifest says", where=piece.path, expected=piece.sha256, got=found, hint=hint
            )


def _where(repository: Repository) -> dict[str, str]:
    return {"repo_type": repository.kind, "revision": repository.revision}


def _stretches(pieces: Sequence[Piece], *, size: int = STRETCH, most: int = MOST) -> Iterator[list[Piece]]:
    held: list[Piece] = []
    for piece in pieces:
        if held and (len(held) == most or sum(each.n_bytes for each in held) + piece.n_bytes > size):
            yield held
            held = []
        held.append(piece)
    if held:
        yield held


def _mb(pieces: Sequence[Piece]) -> float:
    return sum(piece.n_bytes for piece in pieces) / 1e6


@contextmanager
def _quiet_client() -> Iterator[None]:
    """Keep the client's own bars from the terminal while ours is there, and signed addresses out of what it logs."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    had_bars = not are_progress_bars_disabled()
    handlers, plain = list(logging.getLogger("huggingface_hub").handlers), _Cleaned()
    for handler in handlers:
        handler.addFilter(plain)
    disable_progress_bars()
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(plain)
        if had_bars:
            enable_progress_bars()


class _Cleaned(logging.Filter):
    """Clears what is logged of tokens and signatures: the client logs the addresses that it tries again."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record through, cleared."""
        record.msg, record.args = cleaned(record.getMessage()), ()
        return True
