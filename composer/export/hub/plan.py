"""What a push would change in a repository: pieces to send, those that are there, and files of an earlier push to remove."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from composer.errors import InputError
from composer.export.hub.pieces import CARD, RECORD, Piece, of_bytes, record
from composer.export.hub.region import merged
from composer.export.hub.state import State


@dataclass(frozen=True)
class Plan:
    """What a push does to a repository that is in a certain state."""

    state: State
    send: tuple[Piece, ...]
    there: tuple[Piece, ...]
    remove: tuple[str, ...]

    @property
    def n_bytes(self) -> int:
        """Bytes to send."""
        return sum(piece.n_bytes for piece in self.send)

    @property
    def changes_nothing(self) -> bool:
        """Whether the repository has it all already."""
        return not self.send and not self.remove


def make_plan(pieces: Sequence[Piece], *, card: str, artifact: str, state: State) -> Plan:
    """Return what is to be sent and removed so that a repository has these pieces and this card.

    Only what the record of an earlier push lists is replaced or removed; what people wrote on the card stays.

    Raises
    ------
    InputError
        Where a file of another's stands in a piece's place.
    """
    readme = of_bytes(CARD, merged(card, state.card).encode())
    whole = [*pieces, readme, record(pieces, artifact=artifact)]
    is_there = {piece.path: piece.path in state.files and piece.is_as(state.files[piece.path]) for piece in whole}
    ours = {*state.recorded, CARD, RECORD}
    foreign = [path for path, same in is_there.items() if path in state.files and not same and path not in ours]
    if foreign:
        hint = "push to another repository, or remove them there"
        raise InputError(
            "files that no earlier push of ours left there would be written over", where="--hub", got=_few(foreign), hint=hint
        )
    left = {path for path in state.recorded if path in state.files} - is_there.keys()
    return Plan(
        state,
        send=tuple(piece for piece in whole if not is_there[piece.path]),
        there=tuple(piece for piece in whole if is_there[piece.path]),
        remove=tuple(sorted(left - {".gitattributes"})),
    )


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
