"""Shards of a stage, wherever they are made: a ticket says which, and whoever redeems it reads the store and writes the files.

A stage that can be split is given ``spread``, which it calls with the names of the shards that are not there yet, and which
comes back when their files lie in its folder. How many rows a shard has is a constant of the stage, and the stage joins the
files in its own order, so neither the number of workers nor where they are bears on a single byte.

A ticket holds names, keys, paths and settings; no table and no array travels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from threading import Lock, current_thread, main_thread
from typing import TYPE_CHECKING, Any, Protocol

from composer.artifact import Artifact, Store
from composer.errors import StoreError, unsaid
from composer.progress import bar

if TYPE_CHECKING:
    from flows.plan import Step

Spread = Callable[[Sequence[str]], None]
"""Makes the named shards and returns when their files are there."""


class Promise(Protocol):
    """The result of a ticket, some time; Prefect's futures and those of threads are such."""

    def result(self) -> Any:
        """Wait, and return or raise."""


@dataclass(frozen=True)
class Ticket:
    """Some shards of one stage: ``inputs`` are kinds and keys by role, ``folder`` is where the shards' files go."""

    root: str
    stage: str
    label: str
    folder: str
    names: tuple[str, ...]
    values: Mapping[str, Any]
    inputs: Mapping[str, Any]


@cache
def _import_first() -> None:
    for module, names in LIBRARIES.items():
        loaded = import_module(module)
        for name in names:
            getattr(loaded, name)


_importing = Lock()


def import_libraries() -> None:
    """Import, in one thread, what stages import where they use it.

    Of two threads that import such a library for the first time at once, one may find half of it: it imports its parts when
    they are asked for, and these one another.
    """
    with _importing:
        _import_first()


LIBRARIES = {
    "transformers": ("AutoModelForCausalLM", "AutoTokenizer", "PreTrainedTokenizerFast"),
    "sklearn.decomposition": ("TruncatedSVD",),
    "sklearn.feature_extraction.text": ("TfidfVectorizer",),
}  # fmt: skip


@unsaid()
def redeem(ticket: Ticket) -> None:
    """Make the shards of a ticket.

    Raises
    ------
    StoreError
        Where the store's folder or an input cannot be seen from here.
    """
    if current_thread() is not main_thread():  # of a worker with several
        import_libraries()
    from flows.stages import STAGES

    if not Path(ticket.folder).is_dir():
        hint = "the store must lie where every worker sees it, under the same path"
        raise StoreError("a worker does not see the store", where=ticket.folder, hint=hint)
    store, make = Store(ticket.root), STAGES[ticket.stage].shards
    assert make is not None
    inputs = {role: found_in(store, each) for role, each in ticket.inputs.items()}
    make(Path(ticket.folder), ticket.names, **ticket.values, **inputs)


def found_in(store: Store, reference: Any) -> Any:
    """Return the artifacts of a kind and a key, or of a list of them, in the store that is seen here.

    Raises
    ------
    StoreError
        Where one is not there.
    """
    if isinstance(reference, list):
        return tuple(found_in(store, each) for each in reference)
    kind, key = reference
    if (artifact := store.find(kind, key)) is None:
        raise StoreError("a worker does not find an input", where=f"{kind}/{key}", hint="every worker must see the same store")
    return artifact


@dataclass(frozen=True)
class Spreader:
    """Hands tickets out: ``submit`` starts one, and a stage is cut into ``tickets``.

    More tickets than workers even out shards of unequal work; fewer load a model less often.
    """

    submit: Callable[[Ticket], Promise]
    tickets: int

    def of(self, step: Step, store: Store, folder: Path, inputs: Mapping[str, Any]) -> Spread:
        """Return how the shards of one step are made."""
        about: dict[str, Any] = {
            "root": str(store.root.absolute()), "stage": step.stage.name, "label": step.label, "folder": str(folder.absolute()),
            "values": dict(step.values), "inputs": {role: reference(each) for role, each in inputs.items()},
        }  # fmt: skip

        def spread(names: Sequence[str]) -> None:
            tickets = [Ticket(names=part, **about) for part in parts(names, self.tickets)]
            with bar(f"shards of {step.label}", total=len(names), unit="shards") as shown:
                self._wait(tickets, shown.advance)

        return spread

    def _wait(self, tickets: Sequence[Ticket], advance: Callable[[float], None]) -> None:
        """Redeem tickets; what one raises is raised when the others have come to their end, so that none works on unseen."""
        promises, failed = [(ticket, self.submit(ticket)) for ticket in tickets], []
        for ticket, promise in promises:
            try:
                promise.result()
            except Exception as error:
                failed.append(error)
            advance(len(ticket.names))
        if failed:
            raise failed[0]


def parts(names: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    """Yield names in at most ``n`` runs of nearly equal length.

    Examples
    --------
    >>> list(parts("abcde", 2)), list(parts("ab", 4))
    ([('a', 'b'), ('c', 'd', 'e')], [('a',), ('b',)])
    """
    n = min(n, len(names))
    for i in range(n):
        yield tuple(names[len(names) * i // n : len(names) * (i + 1) // n])


def reference(each: Artifact | Sequence[Artifact]) -> Any:
    """Return the kind and the key of an artifact, or a list of them, to find it by elsewhere."""
    return (each.kind, each.key) if isinstance(each, Artifact) else [(one.kind, one.key) for one in each]
