"""Datasets on the Hugging Face Hub: the commit that a revision names, and the rows of a split.

Every failure becomes one line that names the source: the libraries below raise errors of several trees for one cause, a hub
out of reach, so that all of them are caught here and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from composer.errors import SourceError
from composer.ingest.declared import license_of_card, one_licence
from composer.ingest.files import Block, Table
from composer.types import Source

_COMMIT = re.compile(r"[0-9a-f]{40}")
_TIMEOUT = 30.0  # seconds
_BATCH = 8_192  # rows


def commit(source: Source) -> str:
    """Return the commit of a source's revision; a full commit is its own and asks nobody.

    Raises
    ------
    SourceError
        Where the Hub cannot be reached or knows no such dataset or revision.
    """
    if source.revision and _COMMIT.fullmatch(source.revision):
        return source.revision
    from huggingface_hub import HfApi

    try:
        sha = HfApi().dataset_info(source.path, revision=source.revision, timeout=_TIMEOUT).sha
    except Exception as error:
        hint = "there is no local file of that name; online, check the name; offline, give a full commit as revision"
        raise _refusal(source, error, "no commit for the Hub dataset", hint=hint) from None
    if not sha:
        raise SourceError("the Hub names no commit", where=f"sources.{source.name}.path", got=source.path)
    return str(sha)


def blocks(source: Source) -> Iterator[Block]:
    """Yield the rows of a source's subset and split at its revision, as they are stored.

    Raises
    ------
    SourceError
        Where the dataset, the subset, the split or the revision cannot be had.
    """
    import datasets

    try:
        dataset = datasets.load_dataset(source.path, name=source.subset, split=source.split, revision=source.revision)
        # Arrow hands out what is stored: images and sounds beside the text are not decoded.
        for table in dataset.with_format("arrow").iter(batch_size=_BATCH):
            yield Table(table)
    except Exception as error:
        hint = "check subset, split and revision, and that the Hub can be reached"
        raise _refusal(source, error, "cannot load the Hub dataset", hint=hint) from None


@dataclass(frozen=True)
class Structure:
    """What a dataset on the Hub is made of: its commit, its subsets, the splits of the first, and the licence of its card."""

    commit: str
    subsets: tuple[str, ...]
    splits: tuple[str, ...]
    license: str | None


def structure(source: Source) -> Structure:
    """Return what a dataset on the Hub is made of, by its card and the names of its files.

    Raises
    ------
    SourceError
        Where the Hub cannot be reached or knows no such dataset.
    """
    at = commit(source)
    import datasets
    from huggingface_hub import HfApi

    try:
        told = HfApi().dataset_info(source.path, revision=at, timeout=_TIMEOUT)
        subsets = datasets.get_dataset_config_names(source.path, revision=at)
        splits = datasets.get_dataset_split_names(source.path, subsets[0], revision=at)
        word = one_licence(getattr(told.card_data, "license", None)) or _card_license(source.path, at)
    except Exception as error:
        raise _refusal(source, error, "the Hub dataset cannot be looked at", hint="check that it holds data files") from None
    return Structure(at, tuple(subsets), tuple(splits), word)


def lay_first(source: Source, n: int, to: Path) -> None:
    """Write the first n rows of a source's subset and split as Parquet, of which no more is fetched than holds them.

    Raises
    ------
    SourceError
        Where they cannot be had.
    """
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        streamed = datasets.load_dataset(
            source.path, name=source.subset, split=source.split, revision=source.revision, streaming=True
        )  # fmt: skip
        tables = list(streamed.take(n).with_format("arrow").iter(batch_size=n))
        pq.write_table(pa.concat_tables(tables), to)
    except Exception as error:
        raise _refusal(source, error, "cannot look into the Hub dataset", hint="check subset and split") from None


def _card_license(repo: str, at: str) -> str | None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        card = hf_hub_download(repo, "README.md", repo_type="dataset", revision=at)
    except EntryNotFoundError:
        return None
    return license_of_card(Path(card).read_text(encoding="utf-8", errors="replace"))


def _refusal(source: Source, error: Exception, what: str, *, hint: str) -> SourceError:
    cause = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    asked = " ".join(part for part in (source.path, source.subset, source.revision) if part)
    return SourceError(f"{what}: {cause}", where=f"sources.{source.name}.path", got=asked, hint=hint)
