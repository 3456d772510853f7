"""InsInfo with the merging of near tags, against the way of InsCL's released code (``_published_inscl``), and a large pool.

8,000 instructions with three to six tags each, whose forms have vectors of 768 dimensions from a look-up; as one pool, and as
16 tasks of 500, where every stage has the pool of its task and those before: the corpus of ``replay_plan.py``. Both sides
cluster the forms (DBSCAN, cosine), give every cluster one name and score the instructions; the scores are compared to 1e-12.
Theirs walks through all instructions once per cluster. How much that costs depends on the clusters: four concepts in seven have
spellings enough to be one.

Alone, in processes of their own: a million instructions of five tags each, read from Parquet, and 10,000 forms merged.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import _inscl_corpus as corpus
import _published_inscl as released
import numpy as np
import polars as pl
import replay_plan as plan
from _harness import QUICK, Ratio, alone, cpu_seconds, race, tell

from composer import tables
from composer.insinfo import insinfo
from composer.spec import rng
from probes.tags.merge import Merge

INSTRUCTIONS, CONCEPTS = (1_000, 60) if QUICK else (8_000, 200)
EACH = INSTRUCTIONS // plan.TASKS
MANY, FORMS = (50_000, 1_000) if QUICK else (1_000_000, 10_000)
SEED, SAME = 11, 1e-12
IMPORTS = ["sklearn.cluster", "scipy.sparse.csgraph"]
Pool = list[list[str]]


class Phrases:
    """A look-up in place of the embedder of phrases."""

    def __init__(self, concepts: int) -> None:
        forms, self.rows = corpus.vocabulary(concepts, SEED)
        self.at = {form: i for i, form in enumerate(forms)}

    def encode(self, forms: Sequence[str]) -> np.ndarray:
        """Return the vectors of forms."""
        return np.asarray(self.rows[[self.at[form] for form in forms]])


def pool(n: int, concepts: int) -> Pool:
    """Return the tags of n instructions, clean."""
    forms, _ = corpus.vocabulary(concepts, SEED)
    return [[forms[i] for i in own] for own in corpus.drawn(n, concepts, rng(SEED, "benchmark", "insinfo"))]


def ours(tags: Pool, phrases: Phrases) -> np.ndarray:
    """Merge and score one pool."""
    size, flat = [len(own) for own in tags], pl.Series(list(chain.from_iterable(tags)))
    forms = flat.value_counts(name="n")
    names = merge(phrases).names(dict(forms.iter_rows()))
    named = flat.replace_strict(list(names), list(names.values()))
    return insinfo(corpus.column(named, size))


def published(tags: Pool, phrases: Phrases) -> np.ndarray:
    """Merge and score one pool as the released code does."""
    tagged = {"all": [{"instruction": "", "tags": own} for own in tags]}
    merged = released.merge(tagged, Counter(chain.from_iterable(tags)), phrases)["all"]
    frequency = Counter(tag for item in merged for tag in item["tags"])
    return np.array([released.score(item["tags"], len(tags), frequency) for item in merged])


def our_stages(folder: Path) -> np.ndarray:
    """Merge and score at every stage of a sequence of tasks."""
    tagged, by = plan.tags_of(folder, EACH), merge(released.Phrases(folder))
    return np.concatenate([plan.scores_of(tagged, (stage + 1) * EACH, by)[: stage * EACH] for stage in range(1, plan.TASKS)])


def published_stages(folder: Path) -> np.ndarray:
    """Merge and score at every stage as the released code does; in the order of the instructions."""
    phrases = released.Phrases(folder)
    out: list[float] = []
    for stage in range(1, plan.TASKS):
        scored = released.informative(folder, plan.NAMES, stage, phrases)
        for name in plan.NAMES[:stage]:
            out += [value for _, value in sorted(scored[name], key=lambda pair: int(pair[0].split(",")[1].split(".")[0]))]
    return np.array(out)


def merge(phrases: Any) -> Merge:
    """Return the merging of near tags, with the look-up as its embedder."""
    return Merge.model_construct(embed=phrases, eps=corpus.EPS, min_samples=corpus.MIN_SAMPLES)


def turns(label: str, target: float, our: Callable[[], Any], their: Callable[[], Any]) -> tuple[Ratio, dict[str, float], bool]:
    """Run both sides in turns in this process; return the median ratio of CPU seconds, the medians, and whether all agreed."""
    told = []
    for i in range(2 if QUICK else 5):
        (theirs_s, theirs), (ours_s, mine) = cpu_seconds(their), cpu_seconds(our)
        told.append((ours_s, theirs_s, bool(np.abs(mine - theirs).max() <= SAME)))
        print(f"{label} {i + 1}: ours {ours_s:.4f} s, theirs {theirs_s:.4f} s", file=sys.stderr, flush=True)
    ratio = statistics.median(mine / other for mine, other, _ in told)
    seconds = {side: round(statistics.median(each[k] for each in told), 4) for k, side in enumerate(("ours", "published"))}
    return Ratio(f"cpu over the released way, {label}", ratio, target, "lower", len(told)), seconds, all(x for _, _, x in told)


def million(path: Path) -> float:
    """Score the instructions of a file; return the sum."""
    return float(insinfo(pl.read_parquet(path, columns=["tags"])["tags"]).sum())


def tagged(path: Path) -> None:
    """Write instructions of five tags each, of which few are frequent."""
    dice = rng(SEED, "benchmark", "many")
    weights = 1 / np.arange(1, 50_001) ** 0.8
    words = pl.Series([f"tag number {i}" for i in range(len(weights))])
    flat = words[dice.choice(len(words), size=5 * MANY, p=weights / weights.sum())]
    rows = pl.DataFrame({"row": np.repeat(np.arange(MANY), 5), "tags": flat}).group_by("row", maintain_order=True).agg("tags")
    tables.write(rows.select(instruction_id=pl.col("row").cast(pl.String).str.zfill(16), tags="tags"), path, tables.TAGS)


def merged() -> int:
    """Merge all forms of a vocabulary; return how many names are left."""
    phrases = Phrases(FORMS // 5)
    return len(set(merge(phrases).names(dict.fromkeys(phrases.at, 1)).values()))


def main() -> None:
    """Compare at 8,000 instructions, then measure the large ones alone."""
    told, costs, agreed = [], {}, []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus.write(folder, tasks=plan.TASKS, instructions=EACH, rows=EACH, concepts=CONCEPTS, seed=SEED)
        tags, phrases = pool(INSTRUCTIONS, CONCEPTS), Phrases(CONCEPTS)
        ours(tags[:50], phrases)  # imports are not the question
        pairs = {
            f"{plan.TASKS} tasks, all stages": (partial(our_stages, folder), partial(published_stages, folder)),
            "one pool": (partial(ours, tags, phrases), partial(published, tags, phrases)),
        }
        for label, sides in pairs.items():
            ratio, costs[label], equal = turns(label, 0.01, *sides)
            told.append(ratio)
            agreed.append(equal)
        alone(partial(tagged, folder / "tags.parquet"))
        for label, work, bounds in (
            (f"{MANY:,} instructions", partial(million, folder / "tags.parquet"), {"peak": 2000.0, "cpu": 10.0}),
            (f"merging {FORMS:,} forms", merged, {"peak": 2000.0, "cpu": 10.0}),
        ):
            found = race(label, {"ours": work}, same=lambda a, b: a == b, imports={"ours": IMPORTS})
            told += [found.worst(f"{of}, {label}", "ours", of=of, target=bound) for of, bound in bounds.items()]
            costs[label] = found.medians()
    sizes = {"instructions": INSTRUCTIONS, "concepts": CONCEPTS, "many": MANY, "forms": FORMS}
    tell("insinfo", told, equal=all(agreed), sizes=sizes, costs=costs)


if __name__ == "__main__":
    main()
