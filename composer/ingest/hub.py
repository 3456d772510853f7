"""Datasets on the Hugging Face Hub: the commit that a revision names, and the rows of a split.

Every failure becomes one line that names the source: the libraries below raise errors of several trees for one cause, a hub
out of reach, so that all of them are caught here and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from composer.errors import SourceError
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


def _refusal(source: Source, error: Exception, what: str, *, hint: str) -> SourceError:
    cause = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    asked = " ".join(part for part in (source.path, source.subset, source.revision) if part)
    return SourceError(f"{what}: {cause}", where=f"sources.{source.name}.path", got=asked, hint=hint)
