"""What the exporters for trainers share: a folder that one trainer reads as it lies, the mixture carried by rows or by weights.

By rows, ``train`` holds the mix as it was composed, chosen, repeated and ordered, and the trainer is told to read it once, in
order. By weights, ``data`` holds one file per domain, every row once, and the trainer's own weights say how much of each is
drawn; what they come to is what :mod:`composer.export.prove` finds out. Paths in a config start at its own folder.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml
from pydantic import Field

from composer.errors import InputError, SpecError
from composer.export.base import USUAL, Exporter, TrainedOn, config
from composer.export.chat_jsonl import write_lines
from composer.export.rows import Rows
from composer.export.rules import Numbers
from composer.progress import Bar, bar

Carry = Literal["rows", "weights"]
WHOLE = "train"
"""Name of the one file that holds the whole mix."""
NO_LAST = "loss_on: last has no word here: every assistant turn is trained on."


@dataclass(frozen=True)
class Part:
    """A file of the export: its domain (none for the whole mix), its rows, and how many of them the mixture takes."""

    name: str
    path: str
    domain: str | None
    rows: int
    wanted: int


@dataclass(frozen=True)
class Drawn:
    """What a trainer draws: its files by path, and row numbers through all of them in that order."""

    files: tuple[str, ...]
    numbers: Numbers


class Trainer(Exporter):
    """A folder for one trainer: ``carry`` says how the mixture travels, ``seed`` is that of the trainer's own draws.

    ``model`` is what the config names as the model; every trainer's command line can name another. A member has the name of its
    config (``main``) and by ``carry`` what is said on top of it (``said``).
    """

    home: ClassVar[str]
    main: ClassVar[str] = "sft.yaml"
    said: ClassVar[Mapping[str, str]]
    suffix: ClassVar[str] = ".jsonl"
    keeps_order: ClassVar[bool] = True
    name: str
    carry: Carry = "rows"
    seed: int = Field(default=42, ge=0)
    model: str = "MODEL"

    @abstractmethod
    def files(self, parts: Sequence[Part], how: TrainedOn) -> dict[str, str]:
        """Return the configs for these files by name, as texts."""

    @abstractmethod
    def paths(self, values: Any) -> Sequence[str]:
        """Return the paths of the files that a config names, in its order."""

    @abstractmethod
    def numbers(self, values: Any, rows: Sequence[int], *, where: Path) -> Numbers:
        """Return the row numbers that the trainer draws by a config that lies at ``where``, of files of so many rows.

        Raises
        ------
        InputError
            Where the trainer would refuse the config, or what it does is not replayed.
        """

    def drawn(self, home: Path, sizes: Mapping[str, int]) -> Drawn:
        """Replay the trainer's own rule on the config that lies in ``home``; ``sizes`` are the files' rows by path.

        Raises
        ------
        InputError
            Where the config names other files, or weights that the trainer would refuse.
        """
        where = home / self.main
        values = read(where)
        files = tuple(self.paths(values))
        return Drawn(files, self.numbers(values, sized(files, sizes, where=where), where=where))

    def text(self, values: Mapping[str, Any], *more: str) -> str:
        """Return a config under what is said of it, and some lines more."""
        return document("\n".join((self.said[self.carry], *more)), values)

    def write(self, composition: Path, samples: Path, folder: Path, *, how: TrainedOn = USUAL) -> dict[str, Any]:
        """Write the files and the config; return the rows of every file and what is wanted of it."""
        rows = self.rows(composition, samples, folder)
        self.check(list(rows.domains))
        self._check_phases(rows)
        parts = self.parts(rows.domains, rows.distinct)
        home = folder / self.home
        home.mkdir(parents=True, exist_ok=True)
        with bar(f"export {self.name}", total=sum(part.rows for part in parts)) as shown:
            for part in parts:
                self.write_part(rows, part, home / part.path, shown=shown)
        for name, text in self.files(parts, how).items():
            (home / name).write_text(text, encoding="utf-8", newline="\n")
        return {
            "carry": self.carry, "rows": {part.name: part.rows for part in parts},
            "wanted": {part.name: part.wanted for part in parts},
        }  # fmt: skip

    def write_part(self, rows: Rows, part: Part, path: Path, *, shown: Bar) -> None:
        """Write one file."""
        write_lines(rows.groups(domain=part.domain, once=part.domain is not None), path, shown=shown)

    def parts(self, domains: Mapping[str, int], distinct: Mapping[str, int]) -> list[Part]:
        """Return the files for a mix of so many rows of every domain, so many of them different."""
        if self.carry == "rows":
            n = sum(domains.values())
            return [Part(WHOLE, self.path(WHOLE), None, n, n)]
        return [Part(name, self.path(name), name, distinct[name], domains[name]) for name in domains]

    def path(self, name: str) -> str:
        """Return where the file of a part lies."""
        return f"{name}{self.suffix}" if self.carry == "rows" else f"data/{name}{self.suffix}"

    def configs(self, domains: Sequence[str]) -> list[dict[str, Any]]:
        """Return the whole mix as one config, or one config per domain."""
        parts = self.parts(dict.fromkeys(sorted(domains), 0), dict.fromkeys(domains, 0))
        return [config(self.name if part.domain is None else part.domain, f"{self.home}/{part.path}") for part in parts]

    def check(self, domains: Sequence[str]) -> None:
        """Refuse a domain whose file would be hidden."""
        for domain in domains:
            if domain.startswith("."):
                raise SpecError(
                    "a domain that cannot be exported", where="domain", got=domain, expected="a name without a dot before it"
                )

    def _check_phases(self, rows: Rows) -> None:
        if (self.carry == "rows" and self.keeps_order) or rows.phases == 1:
            return
        what = "weights cannot say what comes first" if self.carry == "weights" else f"{self.name} shuffles what it reads"
        hint = "carry the rows in order (carry: rows) for a trainer that keeps it, or export every phase by a recipe of its own"
        raise SpecError(what, where=f"exports.{self.name}", got=f"{rows.phases} phases", hint=hint)


def document(said: str, values: Mapping[str, Any]) -> str:
    """Return a YAML config under a comment.

    Examples
    --------
    >>> print(document("Read once.", {"epochs": 1}), end="")
    # Read once.
    epochs: 1
    """
    head = "".join(f"# {line}\n" for line in said.strip().splitlines())
    return head + yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=120)


def read(path: Path) -> Any:
    """Return a YAML or JSON config.

    Raises
    ------
    InputError
        Where it is not there or is not YAML.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise InputError("a config that cannot be read", where=str(path), got=str(error)[:120]) from None


def sized(files: Sequence[str], sizes: Mapping[str, int], *, where: Path) -> list[int]:
    """Return the rows of the files that a config names.

    Raises
    ------
    InputError
        For a file that is not of the export.
    """
    for file in files:
        if file not in sizes:
            raise InputError("names a file that is not of the export", where=str(where), got=file, expected=", ".join(sizes))
    return [sizes[file] for file in files]
