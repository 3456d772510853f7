"""InsCL's replay plan, all stages of a sequence of tasks, against the way its released code goes (``_published_inscl``).

Sixteen tasks, so fifteen stages; 200 rows of replay per earlier task, vectors of 768 dimensions, three to six tags each.
Both sides read the same files: rows as JSON lines, vectors, tags, and a look-up in place of the embedder of phrases. Theirs
leaves the replayed rows themselves, ours their places, which is what the export takes.

The amounts of every stage must be equal and every score must be the same to 1e-12. Where a task gives fewer rows than it has
instructions, the same instructions must give one each, but for those whose score is that of the last one taken, where chance
decides on both sides; else the released code tops up at random, and what must be the same is the total and that all give.

``--large`` adds 2,000 instructions and 50,000 rows a task, where theirs takes about half an hour.
"""

from __future__ import annotations

import os
import pickle
import shutil
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain, combinations
from pathlib import Path
from typing import Any, NamedTuple

import _inscl_corpus as corpus
import numpy as np
import polars as pl
from _harness import LARGE, QUICK, Cost, Race, Ratio, alone, race, tell
from _published_inscl import Phrases, replay_plan
from numpy.typing import NDArray

from composer.candidates import Candidates
from composer.insinfo import insinfo
from composer.replay.distance import DistanceReplay
from composer.select.instruction import InstructionSelector
from composer.similarity import Cloud
from composer.similarity.wasserstein import Wasserstein
from composer.types import ReplayContext, SelectContext, SimilarityMatrix
from probes.tags.merge import Merge
from probes.tags.spelling import normalise

TASKS, PER_TASK, SAME = 6 if QUICK else 16, 200, 1e-12
NAMES = [f"task {i}" for i in range(TASKS)]
IDS = [f"{i:016x}" for i in range(10_000)]
IMPORTS = ["ot", "sklearn.cluster", "scipy.sparse.csgraph"]
Sizes = tuple[int, int]  # instructions and rows of a task


class Tagged(NamedTuple):
    """The forms of all tags in their order, and of every tag its instruction, counted through all tasks, and its form."""

    forms: list[str]
    instruction: NDArray[np.int64]
    form: NDArray[np.int64]


def published(folder: Path, out: Path) -> Path:
    """Plan in the released code's way; return where amounts, scores and quotas lie."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    found = replay_plan(folder, NAMES, PER_TASK, out)
    texts = [each["instructions"] for each in pickle.loads((folder / "vectors.pkl").read_bytes()).values()]  # noqa: S301
    scores = [[score[text] for text in own] for score, own in zip(found.scores, _earlier(texts), strict=True)]
    quotas = [[quota[text] for text in own] for quota, own in zip(found.quotas, _earlier(texts), strict=True)]
    return _kept(out, found.amounts, scores, quotas)


def ours(folder: Path, out: Path) -> Path:
    """Plan in ours; return where the same lie."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    encoded = pickle.loads((folder / "vectors.pkl").read_bytes())  # noqa: S301  written by this benchmark
    texts = [encoded[name]["instructions"] for name in NAMES]
    rows = [rows_of(folder / f"{name}.jsonl", own) for name, own in zip(NAMES, texts, strict=True)]
    matrix = distances([Cloud(encoded.pop(name)["vectors"], own.size) for name, own in zip(NAMES, rows, strict=True)])
    tagged = tags_of(folder, len(texts[0]))
    merge = Merge.model_construct(embed=Phrases(folder), eps=corpus.EPS, min_samples=corpus.MIN_SAMPLES)
    amounts, scores, quotas = [], [], []
    for stage in range(1, TASKS):
        amount, score = amounts_of(stage, matrix, rows), scores_of(tagged, (stage + 1) * len(texts[0]), merge)
        of_task = score.reshape(stage + 1, -1)[:stage]
        taken = [chosen(own, value, n, stage) for own, value, n in zip(rows, of_task, amount, strict=False)]
        np.savez(out / f"{NAMES[stage]}.npz", *(own.rows["row"].to_numpy()[at] for own, at in zip(rows, taken, strict=False)))
        amounts += amount
        scores += list(of_task)
        quotas += [np.bincount(own.instruction[at], minlength=len(own.size)) for own, at in zip(rows, taken, strict=False)]
    return _kept(out, amounts, scores, quotas)


def _earlier(texts: Sequence[list[str]]) -> Iterator[list[str]]:
    return chain.from_iterable(texts[:stage] for stage in range(1, len(texts)))


def _kept(out: Path, amounts: Any, scores: Any, quotas: Any) -> Path:
    np.savez(out / "found.npz", amounts=amounts, scores=np.asarray(scores), quotas=np.asarray(quotas))
    return out / "found.npz"


def rows_of(path: Path, texts: Sequence[str]) -> Candidates:
    """Return the rows of a task without their texts; an instruction's id is its place among the task's, so that all agree."""
    known = pl.LazyFrame({"text": texts, "instruction_id": IDS[: len(texts)]})
    read = pl.scan_ndjson(path, schema={"id": pl.String, "instruction": pl.List(pl.String)}, row_index_name="row")
    rows = read.select("row", sample_id="id", text=pl.col("instruction").list.first())
    return Candidates(rows.join(known, on="text", how="left", maintain_order="left").drop("text").collect(engine="streaming"))


def distances(clouds: Sequence[Cloud]) -> SimilarityMatrix:
    """Return the exact transport between every two tasks."""
    value, exact = np.zeros((TASKS, TASKS)), Wasserstein()
    for i, j in combinations(range(TASKS), 2):
        value[i, j] = value[j, i] = exact.estimate(clouds[i], clouds[j]).value
    return SimilarityMatrix(domains=tuple(NAMES), value=tuple(map(tuple, value.tolist())), measure=exact.name)


def amounts_of(stage: int, matrix: SimilarityMatrix, rows: Sequence[Candidates]) -> list[int]:
    """Return how many rows of every earlier task come back."""
    there = tuple(map(len, rows[:stage]))
    context = ReplayContext(
        stage=stage, earlier=tuple(NAMES[:stage]), current=(NAMES[stage],), weights=(1.0,), available=there, similarity=matrix
    )
    return DistanceReplay(per_task=PER_TASK).amounts(context).tolist()


def tags_of(folder: Path, instructions: int) -> Tagged:
    """Return the tags of all tasks, each spelling cleaned once."""
    items = [pickle.loads((folder / f"{name}.tags.pkl").read_bytes()) for name in NAMES]  # noqa: S301
    tags = [each["tags"] for each in chain.from_iterable(items)]
    raw = pl.Series(list(chain.from_iterable(tags)))
    words = raw.unique()
    form = raw.replace_strict(words, pl.Series(list(map(normalise, words))))
    forms = form.unique().sort()
    row = np.repeat(np.arange(TASKS * instructions), [len(each) for each in tags])
    return Tagged(forms.to_list(), row, form.cast(pl.Enum(forms)).to_physical().to_numpy())


def scores_of(tagged: Tagged, n: int, merge: Merge) -> NDArray[np.float64]:
    """Return the InsInfo of the first n instructions, which are the pool."""
    end = int(np.searchsorted(tagged.instruction, n))
    row, form = tagged.instruction[:end], tagged.form[:end]
    frequency = np.bincount(form, minlength=len(tagged.forms))
    seen = np.flatnonzero(frequency)
    names = merge.names({tagged.forms[i]: int(frequency[i]) for i in seen.tolist()})
    name = pl.Series([names.get(form, "") for form in tagged.forms])[form]
    return insinfo(corpus.column(name, np.bincount(row, minlength=n)))


def chosen(rows: Candidates, score: NDArray[np.float64], n: int, seed: int) -> NDArray[np.int64]:
    """Return which n rows are replayed."""
    scores = rows.instruction_ids.to_frame().with_columns(score=pl.lit("insinfo"), value=pl.Series(score))
    return InstructionSelector().order(rows, context=SelectContext(instruction_scores=scores), n=n, seed=seed)[:n]


def same(one: Path, other: Path) -> bool:
    """Return whether two plans agree in all that is not left to chance."""
    with np.load(one) as a, np.load(other) as b:
        if not np.array_equal(a["amounts"], b["amounts"]) or np.abs(a["scores"] - b["scores"]).max() > SAME:
            return False
        cases = zip(a["amounts"], a["scores"], a["quotas"], b["quotas"], strict=True)
        return all(_agree(int(n), score, mine, theirs) for n, score, mine, theirs in cases)


def _agree(n: int, score: NDArray[np.float64], mine: NDArray[np.int64], theirs: NDArray[np.int64]) -> bool:
    if mine.sum() != n or theirs.sum() != n:
        return False
    if n >= len(score):
        return bool(mine.min() >= 1 and theirs.min() >= 1)
    last = np.sort(score)[-n]
    apart = np.abs(score - last) > SAME
    return np.array_equal(mine[apart], theirs[apart]) and max(mine.max(), theirs.max()) == 1


def against(sizes: Sizes, folder: Path) -> tuple[Race, list[Cost]]:
    """Write two corpora, the second of twice the rows; race on the first, and return what ours costs on the second as well."""
    instructions, rows = sizes
    made = {"tasks": TASKS, "instructions": instructions, "concepts": 2 * instructions // 5, "seed": 11}  # 0 was for tuning
    for name, n in (("one", rows), ("two", 2 * rows)):
        (folder / name).mkdir()
        alone(partial(corpus.write, folder / name, rows=n, **made))
    one = folder / "one"
    sides = {"ours": partial(ours, one, folder / "ours"), "published": partial(published, one, folder / "published")}
    repeats = 1 if QUICK or instructions >= 2_000 else 3
    found = race(_label(sizes), sides, same=same, repeats=repeats, imports=dict.fromkeys(sides, IMPORTS))
    longer = [alone(partial(ours, folder / "two", folder / "ours"), imports=IMPORTS)[0] for _ in range(repeats)]
    return found, longer


def _label(sizes: Sizes) -> str:
    return f"{sizes[0]:,} instructions, {sizes[1]:,} rows"


def main() -> None:
    """Race at every size and tell the ratios."""
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that are started
    told: list[Ratio] = []
    costs: dict[str, Any] = {}
    equal = True
    sizes = [(240, 1_000)] if QUICK else [(500, 5_000), *([(2_000, 50_000)] if LARGE else [])]
    for each in sizes:
        with tempfile.TemporaryDirectory() as folder:
            found, longer = against(each, Path(folder))
        label, target = _label(each), 0.06 if each[0] >= 2_000 else 0.07
        told.append(found.ratio(f"cpu over the released way, {label}", "ours", "published", target=target))
        told.append(found.ratio(f"peak over the released way, {label}", "ours", "published", of="peak", target=1.0))
        growth = [two.cpu / one.cpu for two, one in zip(longer, found.costs["ours"], strict=True)]
        told.append(Ratio(f"cpu at twice the rows, {label}", statistics.median(growth), 2.0, "lower", len(growth)))
        costs[label] = found.medians()
        equal = equal and found.equal
    shown = {"tasks": TASKS, "per_task": PER_TASK, "instructions and rows of a task": sizes, "dimensions": corpus.DIMS}
    tell("replay_plan", told, equal=equal, sizes=shown, costs=costs)


if __name__ == "__main__":
    main()
