"""What a repository has at present, as far as a push asks: its files with their hashes, its card, and what we left there."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from composer.errors import InputError
from composer.export.hub.pieces import CARD, RECORD
from composer.export.hub.repository import Repository, told_plainly


@dataclass(frozen=True)
class State:
    """``files`` maps paths to marks (``sha256:...`` or ``git:...``), ``recorded`` are the paths that our last push left.

    A repository that is not there is empty and has no ``head``; so has a branch, which then begins at ``main``.
    """

    is_there: bool = False
    is_private: bool | None = None
    has_branch: bool = False
    head: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    card: str | None = None
    recorded: frozenset[str] = frozenset()


def look(repository: Repository) -> State:
    """Return the state of a repository's branch; nothing is changed.

    Raises
    ------
    InputError
        Where it cannot be seen, or its record or card cannot be read.
    FaultError
        Where the Hub cannot be reached.
    """
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    api = repository.api
    with told_plainly(f"looking at {repository.name}"):
        try:
            info = api.repo_info(**repository.at)
        except GatedRepoError:
            raise
        except RepositoryNotFoundError as error:
            if _status(error) == 401:
                raise
            return State()
        has_branch, head = True, info.sha
        try:
            if repository.revision != "main":
                head = api.repo_info(**repository.at, revision=repository.revision).sha
        except RevisionNotFoundError:
            has_branch = False
        files = _files(api, repository, head) if head else {}
        card = _text(api, repository, head, CARD) if CARD in files else None
        told = _text(api, repository, head, RECORD) if RECORD in files else None
    return State(
        is_there=True, is_private=bool(info.private), has_branch=has_branch, head=head, files=files, card=card,
        recorded=_recorded(told),
    )  # fmt: skip


def _files(api: Any, repository: Repository, head: str) -> dict[str, str]:
    tree = api.list_repo_tree(**repository.at, revision=head, recursive=True)
    return {
        entry.path: f"sha256:{entry.lfs.sha256}" if entry.lfs else f"git:{entry.blob_id}"
        for entry in tree
        if hasattr(entry, "blob_id")  # a folder has none
    }


def _text(api: Any, repository: Repository, head: str | None, name: str) -> str:
    with tempfile.TemporaryDirectory() as aside:
        path = api.hf_hub_download(**repository.at, revision=head, filename=name, cache_dir=aside)
        return Path(path).read_text(encoding="utf-8")


def _recorded(text: str | None) -> frozenset[str]:
    if text is None:
        return frozenset()
    try:
        return frozenset(map(str, json.loads(text)["files"]))
    except (ValueError, KeyError, TypeError):
        hint = "mend it on the Hub from an earlier commit, or remove it with the files that it listed"
        raise InputError(
            "the record of an earlier push cannot be read", where=f"{RECORD} of the repository", hint=hint
        ) from None


def _status(error: Any) -> int | None:
    return getattr(error.response, "status_code", None)
