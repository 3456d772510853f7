"""What a plan will cost before it is carried out: rows and tokens of the sources, sequences and tokens of model calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from composer.artifact import Store
from composer.errors import SourceError
from composer.ingest import Files, locate
from composer.ingest.files import READERS
from composer.ingest.opening import TruncatedError, ending, whole
from composer.types import Source
from flows.plan import Plan, Step
from flows.spending import foreseen

CHARACTERS_PER_TOKEN = 4  # of English text under the usual vocabularies; a guess until the source is ingested
NOTE = "Tokens of sources that are not ingested yet are guessed as bytes / 4."


def estimate(plan: Plan, store: Store) -> dict[str, Any]:
    """Return rows and tokens per source and the model calls that are still to do."""
    sources = [_source(step, store) for step in plan if step.stage.name == "ingest"]
    to_do = [step for step in plan if store.find(step.stage.kind, step.key) is None]
    calls = [call for step in to_do if (call := _calls(step, plan, store, sources))]
    return {"sources": sources, "model_calls": calls, "note": NOTE if any(s["guessed"] for s in sources) else ""}


def _source(step: Step, store: Store) -> dict[str, Any]:
    source: Source = step.values["source"]
    if found := store.find("source", step.key):
        stats = found.manifest.stats
        return {"name": source.name, "rows": stats["samples"], "tokens": stats["n_tokens"], "guessed": False}
    rows, n_bytes = _look(source)
    if source.limit and rows and rows > source.limit:
        rows, n_bytes = source.limit, (n_bytes or 0) * source.limit // rows
    return {"name": source.name, "rows": rows, "tokens": n_bytes and n_bytes // CHARACTERS_PER_TOKEN, "guessed": True}


def _look(source: Source) -> tuple[int | None, int | None]:
    """Return rows and uncompressed bytes of the files that ingest would read; None for a Hub data set."""
    place = locate(source)
    if not isinstance(place, Files):
        return None, None
    sizes = [_size(path, source) for path in place.paths]
    return sum(rows for rows, _ in sizes), sum(n_bytes for _, n_bytes in sizes)


def _size(path: Path, source: Source) -> tuple[int, int]:
    """Return rows and bytes of a file: from a Parquet file's footer, else by its blocks, which are cut and not parsed."""
    where = f"sources.{source.name}.path"
    try:
        if ending(path) != ".parquet":
            return sum(block.size for block in READERS[ending(path)](path, encoding=source.encoding)), path.stat().st_size
        import pyarrow as pa
        import pyarrow.parquet as pq

        content = whole(path)
        metadata = pq.read_metadata(content if isinstance(content, Path) else pa.BufferReader(content))
    except (TruncatedError, OSError, ValueError) as error:  # Arrow's errors are among these
        raise SourceError(f"not readable: {' '.join(str(error).split())[:160]}", where=where, got=path.name) from None
    return metadata.num_rows, sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))


def _calls(step: Step, plan: Plan, store: Store, sources: list[dict[str, Any]]) -> dict[str, Any] | None:
    recipe = plan.recipe
    rows = sum(source["rows"] or 0 for source in sources)
    mean = sum(source["tokens"] or 0 for source in sources) / max(rows, 1)
    if step.stage.name == "probe":
        return foreseen(step, store)
    if step.stage.name == "evaluate":
        n = min(rows, (recipe.evaluate.max_samples or rows) * len(recipe.order))
        return {"step": step.label, "calls": n, "tokens": round(n * mean)}
    if step.stage.name == "train" and recipe.train is not None:
        share = recipe.train.epochs / len(recipe.groups)
        return {"step": step.label, "calls": round(rows * share), "tokens": round(rows * mean * share)}
    return None
