"""What the commands push to the Hub, with ``--hub org/name``: an export, a trained model or adapter, or a merged checkpoint.

A push is no stage: it leaves nothing in the store and is done again whenever it is asked for, and then sends what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from composer.errors import CheckError, SpecError

if TYPE_CHECKING:
    from composer.artifact import Store
    from composer.export.hub import Piece, Repository, State
    from composer.export.hub import Plan as PushPlan
    from flows.plan import Plan as Story

HubOption = Annotated[str | None, typer.Option("--hub", help="Push it to this repository of the Hub, org/name, too.")]
PublicOption = Annotated[bool, typer.Option("--public", help="Let everybody read it; a new repository is private otherwise.")]
RevisionOption = Annotated[str | None, typer.Option("--revision", help="Push to this branch (default: main).")]
IN_THE_RECIPE = "license_conflicts: allow in the recipe"
NAMED = "name the repository: --hub org/name"


Licences = Mapping[str, Mapping[str, int]]
"""By licence how many rows of which source."""


@dataclass(frozen=True)
class Content:
    """What is pushed: the artifact's name, its files, its card, and the licences of the rows that it rests on."""

    artifact: str
    pieces: Sequence[Piece]
    card: str
    licences: Licences


Find = Callable[["Story", "Store"], Content | None]


@dataclass(frozen=True)
class Publication:
    """A push to a repository of what ``find`` returns of a story that was carried out.

    ``allow`` is what one says to push in spite of licences that stand against it.
    """

    repository: Repository
    find: Find
    public: bool = False
    allow: str = IN_THE_RECIPE

    def check(self) -> None:
        """Refuse to begin where nothing could be sent."""
        from composer.export.hub.repository import check_ready

        check_ready()

    def preview(self, story: Story, store: Store) -> dict[str, Any]:
        """Return what would be sent; the repository is looked at where that can be done."""
        content = self.find(story, store)
        if content is None:
            return {**self._named(), "note": "it is not made yet; what it consists of is known when it is", "conflicts": []}
        return self._preview(content, allowed=story.recipe.license_conflicts == "allow")

    def _preview(self, content: Content, *, allowed: bool) -> dict[str, Any]:
        from composer.export.hub import State, look
        from composer.export.hub.push import check_visibility
        from composer.export.hub.repository import has_token, is_offline

        can_look = not is_offline() and has_token()
        note = "" if can_look else "the repository was not looked at: offline, or nobody is logged in"
        plan = self._plan(content, look(self.repository) if can_look else State())
        check_visibility(plan, public=self.public)
        return {
            **self._named(),
            "visibility": "public" if self.public or plan.state.is_private is False else "private",
            "is_new": not plan.state.is_there,
            "send": [{"path": piece.path, "bytes": piece.n_bytes, "sha256": piece.sha256} for piece in plan.send],
            "there": [piece.path for piece in plan.there],
            "remove": list(plan.remove),
            "conflicts": [] if allowed else told_conflicts(content.licences),
            "note": note,
        }

    def send(self, story: Story, store: Store) -> dict[str, Any]:
        """Push what was made and return where it is."""
        content = self.find(story, store)
        assert content is not None  # it was carried out just now
        self.check_licences(content.licences, allowed=story.recipe.license_conflicts == "allow")
        return self.send_content(content)

    def check_licences(self, licences: Licences, *, allowed: bool) -> None:
        """Refuse licences that stand against one another, unless that is allowed."""
        if not allowed:
            self.refuse({"conflicts": told_conflicts(licences)})

    def send_content(self, content: Content) -> dict[str, Any]:
        """Push files with their card and return where they are."""
        from composer.export.hub import look, push

        plan = self._plan(content, look(self.repository))
        message = f"Push {content.artifact} with sft-composer"
        done = push(plan, self.repository, message=message, public=self.public)
        return {
            **self._named(), "url": done.url, "commit": done.commit, "is_new_commit": done.is_new,
            "sent": [piece.path for piece in plan.send], "there": [piece.path for piece in plan.there],
            "removed": list(plan.remove), "bytes": plan.n_bytes,
        }  # fmt: skip

    def _plan(self, content: Content, state: State) -> PushPlan:
        from composer.export.card import HERE
        from composer.export.hub import make_plan

        card = content.card.replace(HERE, self.repository.name)
        return make_plan(content.pieces, card=card, artifact=content.artifact, state=state)

    def refuse(self, told: Mapping[str, Any]) -> None:
        """Stop where licences stand against one another.

        Raises
        ------
        CheckError
            With the first conflict and its sources.
        """
        if not told["conflicts"]:
            return
        first, *others = told["conflicts"]
        more = f" (and {len(others)} more, see --dry-run)" if others else ""
        hint = f"leave those sources out, or say {self.allow} if you may; this is no legal advice"
        raise CheckError(
            f"licences stand against it: {first['why']}{more}", where="license_conflicts",
            got=f"{', '.join(first['between'])} of {', '.join(first['sources'])}", hint=hint,
        )  # fmt: skip

    def show(self, told: Mapping[str, Any]) -> None:
        """Print what would be sent, or what was."""
        from flows.publish_view import show

        show(told)

    def _named(self) -> dict[str, Any]:
        return {"repository": self.repository.name, "kind": self.repository.kind, "revision": self.repository.revision}


def publication(
    hub: str | None, *, kind: Literal["dataset", "model"], public: bool, revision: str | None, allow: str = IN_THE_RECIPE
) -> Publication | None:
    """Return the push that a command's options ask for, if they do.

    Raises
    ------
    SpecError
        For options of a push without one.
    InputError
        For what cannot name a repository or a branch.
    """
    if hub is None:
        if public or revision is not None:
            given = "--public" if public else "--revision"
            raise SpecError("only with --hub", where=given, hint=NAMED)
        return None
    from composer.export.hub import Repository
    from flows.publishable import dataset, model

    repository = Repository(hub, kind=kind, revision=revision or "main")
    return Publication(repository, dataset if kind == "dataset" else model, public=public, allow=allow)


def told_conflicts(licences: Licences) -> list[dict[str, Any]]:
    """Return what stands between licences, each with the sources whose rows are meant.

    Examples
    --------
    >>> told_conflicts({"MIT": {"a": 3}, "CC-BY-NC-4.0": {"b": 1, "c": 2}})[0]["sources"]
    ['b', 'c']
    """
    from composer.ingest.licences import conflicts

    found = conflicts({licence: sum(sources.values()) for licence, sources in licences.items()})
    return [{**each, "sources": sorted({s for name in each["between"] for s in licences[name]})} for each in found]
