"""A recipe as a Prefect deployment: what is wanted, and the file ``prefect.yaml`` that says it all.

The file is applied by Prefect's own command, so that what one reads in it is what the server is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from composer.errors import InputError
from composer.remote import is_url
from composer.spec import refuse_secrets
from flows.recipe import Recipe

STORIES = {"train": None, "compose": "export", "probe": "probe"}  # the flows, each with the stage that it stops after
MARK = "# Written by sft-composer deploy for "


@dataclass(frozen=True)
class Wanted:
    """A deployment that is wanted: of which flow, over which recipe, when, and with how many runs at once."""

    recipe: Recipe
    path: Path
    overrides: tuple[str, ...] = ()
    store: str | None = None
    story: str = "train"
    name: str | None = None
    cron: str | None = None
    interval: float | None = None
    timezone: str | None = None
    paused: bool = False
    limit: int = 1

    def __post_init__(self) -> None:
        refuse_secrets({"--store": self.store, "overrides": self.overrides, "--name": self.name})
        if self.story not in STORIES:
            raise InputError("no such flow", where="--flow", got=self.story, expected=", ".join(STORIES))
        if self.cron and self.interval:
            raise InputError("two schedules", where="--cron, --interval", expected="one of them", got="both")

    @property
    def called(self) -> str:
        """The deployment's name."""
        return self.name or self.recipe.name

    @property
    def description(self) -> str:
        """What its page says of it."""
        return f"The flow {self.story} over the recipe {self.recipe.name}."

    @property
    def tags(self) -> list[str]:
        """The deployment's tags: the recipe's, and that of this program."""
        return list(dict.fromkeys(("sft-composer", *self.recipe.flow.tags)))

    @property
    def parameters(self) -> dict[str, Any]:
        """What its runs are asked for, unless told otherwise; paths are whole, so that no matter where they start."""
        store = self.store if self.store is None or is_url(self.store) else str(Path(self.store).resolve())
        given = {"recipe": str(self.path.resolve()), "overrides": list(self.overrides) or None, "store": store}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def schedules(self) -> list[dict[str, Any]]:
        """Its schedules, none or one."""
        when = {"cron": self.cron} if self.cron else {"interval": self.interval} if self.interval else None
        zone = {"timezone": self.timezone} if self.timezone else {}
        return [{**when, **zone, "active": not self.paused}] if when else []


def prefect_yaml(wanted: Wanted, *, pool: str, directory: Path) -> str:
    """Return the text of ``prefect.yaml``; runs start in ``directory``, from which the recipe's relative paths are read."""
    parts: list[tuple[str, Mapping[str, Any]]] = [
        ("Runs start here, and the relative paths of the recipe with them.",
         {"pull": [{"prefect.deployments.steps.set_working_directory": {"directory": str(directory.resolve())}}]}),
        ("One deployment; the form of its parameters is on the server's page under Deployments, Run, Custom run.",
         {"deployments": [{
             "name": wanted.called,
             "description": wanted.description,
             "entrypoint": f"flows.{wanted.story}.{wanted.story}",
             "tags": wanted.tags,
             "parameters": wanted.parameters,
             "schedules": wanted.schedules,
             "concurrency_limit": {"limit": wanted.limit, "collision_strategy": "ENQUEUE"},
             "work_pool": {"name": pool},
         }]}),
    ]  # fmt: skip
    head = [
        f"{MARK}{wanted.path.name}, which writes it anew each time.",
        "# Apply it by hand: prefect deploy --all --prefect-file and its path",
        f"# Carry out its runs: prefect worker start --pool {pool}",
        f"name: {_inline(wanted.recipe.name)}",
    ]
    text = [f"# {why}\n{yaml.safe_dump(part, sort_keys=False, allow_unicode=True, width=120)}" for why, part in parts]
    return "\n".join([*head, "", *text])


def write(text: str, to: Path) -> Path:
    """Write ``prefect.yaml``, but not over one that was not written for this recipe.

    Raises
    ------
    InputError
        Where such a file is there.
    """
    mark = text.split("\n", 1)[0]
    if to.exists() and not to.read_text(encoding="utf-8").startswith(mark):
        hint = "give another name with --to, or move it away"
        raise InputError("a file that was not written for this recipe", where=str(to), expected=mark, hint=hint)
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(text, encoding="utf-8")
    return to


def _inline(text: str) -> str:
    return yaml.safe_dump(text, width=10_000).split("\n")[0]
