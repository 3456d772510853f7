"""Plain documents for a base model: one column of a Parquet or JSONL file, filtered as the recipe says."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from composer.errors import SourceError
from flows.sections import Corpus


def read_corpus(corpus: Corpus, *, name: str) -> list[str]:
    """Return the documents of a corpus, in the file's order.

    Raises
    ------
    SourceError
        Where the file cannot be read, or the column or every row is missing.
    """
    where = f"base_model.corpora.{name}"
    path = Path(corpus.path)
    try:
        frame = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_ndjson(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        what = str(error).splitlines()[0]
        raise SourceError(
            f"cannot read the documents: {what}", where=where, got=path.name, expected="Parquet or JSONL"
        ) from None
    for column in (corpus.column, *corpus.where):
        if column not in frame.columns:
            raise SourceError("no such column", where=where, got=column, expected=", ".join(frame.columns))
    kept = frame.filter([pl.col(c).cast(pl.String) == v for c, v in corpus.where.items()]) if corpus.where else frame
    texts = [text[: corpus.max_chars] for text in kept[corpus.column].cast(pl.String).to_list() if text and text.strip()]
    if not texts:
        raise SourceError("no documents", where=where, got=path.name, hint=f"{len(frame)} rows, none left by {corpus.where}")
    return texts
