"""A plan sends what is missing, removes what only an earlier push left, and touches nothing of anybody else."""

from __future__ import annotations

from pathlib import Path

import pytest

from composer.errors import InputError
from composer.export.hub import Piece, Plan, State, make_plan, pieces_in
from composer.export.hub.pieces import CARD, RECORD, of_bytes
from composer.export.hub.push import _stretches, check_visibility
from composer.fingerprint import sha256
from tests.loopback import git_name

CARD_TEXT = "---\nlicense: mit\n---\n\n# Mix\n"


def plan(pieces: list[Piece], state: State) -> Plan:
    return make_plan(pieces, card=CARD_TEXT, artifact="export/0", state=state)


def after(made: Plan) -> State:
    """Return the state of a repository once a plan was carried out."""
    files = {path: mark for path, mark in made.state.files.items() if path not in made.remove}
    files |= {piece.path: f"sha256:{piece.sha256}" for piece in made.send}
    [card] = [piece.content for piece in (*made.send, *made.there) if piece.path == CARD]
    assert isinstance(card, bytes)
    ours = frozenset(piece.path for piece in (*made.send, *made.there)) - {CARD, RECORD}
    return State(is_there=True, is_private=True, has_branch=True, head="a" * 40, files=files, card=card.decode(), recorded=ours)


def paths(pieces: tuple[Piece, ...]) -> list[str]:
    return [piece.path for piece in pieces]


def test_what_was_sent_is_not_sent_again() -> None:
    first = plan([of_bytes("mix/a", b"1"), of_bytes("mix/b", b"2")], State())
    assert paths(first.send) == ["mix/a", "mix/b", CARD, RECORD]
    assert plan([of_bytes("mix/a", b"1"), of_bytes("mix/b", b"2")], after(first)).changes_nothing


def test_only_the_difference_is_sent_and_what_we_left_is_removed() -> None:
    state = after(plan([of_bytes("mix/a", b"1"), of_bytes("mix/b", b"2"), of_bytes("mix/c", b"3")], State()))
    foreign = {"notes.txt": "git:x", "data/old.parquet": "sha256:y", ".gitattributes": "git:z"}
    state = State(**{**state.__dict__, "files": {**state.files, **foreign}})
    second = plan([of_bytes("mix/a", b"1"), of_bytes("mix/b", b"new")], state)
    assert paths(second.send) == ["mix/b", RECORD]
    assert paths(second.there) == ["mix/a", CARD]
    assert second.remove == ("mix/c",)
    assert second.n_bytes == 3 + second.send[-1].n_bytes


def test_a_file_that_is_not_ours_is_not_written_over() -> None:
    state = State(is_there=True, files={"mix/a": "sha256:other", "mix/b": f"git:{git_name(b'2')}"})
    with pytest.raises(InputError, match=r"--hub: files that no earlier push of ours left.*got mix/a; push to another"):
        plan([of_bytes("mix/a", b"1"), of_bytes("mix/b", b"2")], state)


def test_a_record_that_lists_what_is_gone_removes_nothing() -> None:
    state = State(is_there=True, files={".gitattributes": "git:z"}, recorded=frozenset({"gone", ".gitattributes"}))
    assert plan([], state).remove == ()


def test_pieces_are_the_visible_files_of_a_folder_with_their_hashes(tmp_path: Path) -> None:
    for name in ("mix/b.parquet", "a.json", "README.md", ".buckets/x", "manifest.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    found = pieces_in(tmp_path, known={"a.json": "told"}, leave=("README.md", "manifest.json"))
    assert [(piece.path, piece.sha256) for piece in found] == [
        ("a.json", "told"), ("mix/b.parquet", sha256(tmp_path / "mix/b.parquet")),
    ]  # fmt: skip
    assert found[1].is_as(f"git:{git_name(b'mix/b.parquet')}")
    assert not found[1].is_as(f"git:{git_name(b'another')}")


def test_files_go_in_stretches_of_a_size() -> None:
    pieces = [of_bytes(str(i), b"x" * n) for i, n in enumerate([4, 6, 1, 30, 1, 1, 1, 1])]
    assert [[piece.n_bytes for piece in stretch] for stretch in _stretches(pieces, size=10, most=3)] == [
        [4, 6],
        [1],
        [30],
        [1, 1, 1],
        [1],
    ]


def test_a_public_repository_takes_only_what_may_be_public() -> None:
    made = plan([], State(is_there=True, is_private=False))
    check_visibility(made, public=True)
    with pytest.raises(InputError, match="the repository is public; expected a private one; say --public"):
        check_visibility(made, public=False)
