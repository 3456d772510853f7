"""What the names of files tell: which belong together, of which domain they are, and which are for measuring.

Nothing is opened here. A guess is written into the recipe, where a person sees it and can put it right.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import takewhile
from pathlib import Path
from typing import Literal

from composer.ingest.files import READERS
from composer.ingest.opening import ending

Split = Literal["train", "validation", "test", "evaluation"]

SPLITS: dict[str, Split] = {
    "train": "train", "training": "train", "validation": "validation", "valid": "validation", "val": "validation",
    "dev": "validation", "heldout": "validation", "holdout": "validation", "test": "test", "testing": "test",
    "eval": "evaluation", "evals": "evaluation", "evaluation": "evaluation",
}  # fmt: skip
BENCHMARKS = frozenset({
    "benchmark", "benchmarks", "mmlu", "gsm8k", "hellaswag", "arc", "truthfulqa", "humaneval", "mbpp", "winogrande", "ifeval",
    "bbh", "gpqa", "piqa", "boolq",
})  # fmt: skip
UNNAMED = "general"
_SAY_NOTHING = frozenset({
    "data", "dataset", "datasets", "part", "shard", "chunk", "rows", "samples", "file", "files", "all", "default", "sft", "raw",
    "main", "benchmark", "benchmarks", "text", "texts", "doc", "docs", "document", "documents", "corpus", "corpora", "plain",
})  # fmt: skip
_SHARD = re.compile(r"(?:[-_.]?(?:part|shard|chunk))?[-_.]?\d+(?:[-_.]?of[-_.]?\d+)?$")
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class Guess:
    """Files that are one source: the path that names them all, and what their names say.

    ``domain`` is empty where the names say none. A split ``evaluation`` is only measured, whichever way.
    """

    path: str
    files: tuple[Path, ...]
    domain: str
    split: Split = "train"
    is_benchmark: bool = False


def guesses(root: Path, files: Sequence[Path]) -> list[Guess]:
    """Return the sources that files below a folder make, in the order of their paths.

    Examples
    --------
    >>> names = ["law-00001-of-00002.parquet", "law-00002-of-00002.parquet", "code/train.jsonl", "code/dev.jsonl"]
    >>> for guess in guesses(Path("data"), [Path("data") / name for name in names]):
    ...     print(guess.path, guess.domain, guess.split)
    data/code/dev.jsonl code validation
    data/code/train.jsonl code train
    data/law-0000*-of-00002.parquet law train
    """
    groups: dict[tuple[object, ...], list[Path]] = {}
    for path in sorted(files):
        groups.setdefault((path.parent, _series(path), path.suffix), []).append(path)
    out: list[Guess] = []
    for group in groups.values():
        domain, split, is_benchmark = said(group[0], root)
        pattern = _pattern(group, files)
        if pattern is None:
            out += [Guess(str(path), (path,), domain, split, is_benchmark) for path in group]
        else:
            out.append(Guess(pattern, tuple(group), domain, split, is_benchmark))
    return sorted(out, key=lambda guess: guess.path)


def said(path: Path, root: Path) -> tuple[str, Split, bool]:
    """Return the domain, the split and whether it is a benchmark, as the way from a folder to a file tells.

    Examples
    --------
    >>> said(Path("data/train/law-text.jsonl"), Path("data"))
    ('law', 'train', False)
    >>> said(Path("data/benchmarks/gsm8k.jsonl"), Path("data"))
    ('gsm8k', 'train', True)
    """
    below = path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
    ways = [_words(_series(path)), *(_words(part.lower()) for part in reversed(below.parts[:-1]))]
    split: Split = next((found for words in ways if (found := _split(words))), "train")
    is_benchmark = any(word in BENCHMARKS for words in ways for word in words)
    own = next((kept for words in ways if (kept := _kept(words))), [])
    return "-".join(own), split, is_benchmark


def domain_of(name: str) -> str:
    """Return a domain by the name of a folder or a data set on the Hub.

    Examples
    --------
    >>> domain_of("databricks/Dolly_15k-SFT"), domain_of("data")
    ('dolly-15k', 'general')
    """
    return "-".join(_kept(_words(name.rpartition("/")[2].lower()))) or UNNAMED


def _series(path: Path) -> str:
    """Return a file's name without its endings and its number."""
    stem = path.name.lower().removesuffix(".gz").removesuffix(".zst").removesuffix(ending(path))
    return _SHARD.sub("", stem)


def _words(part: str) -> list[str]:
    return _WORD.findall(part)


def _split(words: Sequence[str]) -> Split | None:
    """Return the split that a name begins or ends with; inside a name such a word means something else."""
    ends = [word for word in (*words[-1:], *words[:1]) if word in SPLITS]
    return SPLITS[ends[0]] if ends else None


def _kept(words: Sequence[str]) -> list[str]:
    own = [word for i, word in enumerate(words) if not (word in SPLITS and i in (0, len(words) - 1))]
    return [word for word in own if word not in _SAY_NOTHING and not word.isdigit()]


def _pattern(group: Sequence[Path], files: Iterable[Path]) -> str | None:
    """Return the path of a lone file, or the glob of several that matches these and no other file with a reader."""
    if len(group) == 1:
        return str(group[0])
    names = [path.name for path in group]
    before = _beginning(names)
    after = _beginning([name[len(before) :][::-1] for name in names])[::-1]
    glob = f"{before}*{after}"
    beside = {path.name for path in (*files, *group[0].parent.iterdir())} if group[0].parent.is_dir() else set(names)
    matched = {name for name in beside if fnmatchcase(name, glob) and ending(Path(name)) in READERS}
    is_safe = not any(sign in str(group[0]) for sign in "*?[")
    return str(group[0].parent / glob) if is_safe and matched == set(names) else None


def _beginning(names: Sequence[str]) -> str:
    """Return the letters with which all names begin."""
    same = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    return "".join(letters[0] for letters in same)
