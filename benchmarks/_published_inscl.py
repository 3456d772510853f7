"""InsCL's replay plan as its released code goes about it, in our own words, with the costs of its loops kept.

At every stage it loads the file of all vectors, solves the exact transport from every earlier task, reads the tags of all
tasks, clusters the forms of the pool, walks through all instructions once per cluster, and reads all rows of earlier tasks.

What is mended, so that its output can be compared: the missing units of a task's amount go to the largest remainders, the last
cluster is merged as well, an instruction's tags are a set without empty ones, and an instruction gives at most the rows it has.
Not kept is what would count in our favour and is no part of the method: PhraseBERT is a look-up and lemmas are left out.

References: InsCL, arXiv:2403.11435, and its released code.
"""

from __future__ import annotations

import json
import math
import pickle
import random
import re
import warnings
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from _inscl_corpus import EPS, MIN_SAMPLES

Row = dict[str, Any]
Tagged = list[dict[str, Any]]


class Phrases:
    """A look-up in place of the embedder of phrases."""

    def __init__(self, folder: Path) -> None:
        self.rows = np.load(folder / "forms.npy")
        self.at = {form: i for i, form in enumerate(json.loads((folder / "forms.json").read_text(encoding="utf-8")))}

    def encode(self, forms: list[str]) -> np.ndarray:
        """Return the vectors of forms."""
        return np.asarray(self.rows[[self.at[form] for form in forms]])


class Found(NamedTuple):
    """Of every stage and earlier task: how many rows come back, the instructions' scores, and how many rows each one gave."""

    amounts: list[int]
    scores: list[dict[str, float]]
    quotas: list[Counter[str]]


def replay_plan(folder: Path, names: list[str], per_task: int, out: Path) -> Found:
    """Write the replayed rows of every stage, and tell how they came about."""
    random.seed(1)
    phrases = Phrases(folder)
    found = Found([], [], [])
    for stage in range(1, len(names)):
        amounts = share_out(distances(folder, names, stage), per_task * stage)
        scored = informative(folder, names, stage, phrases)
        drawn: list[Row] = []
        for j, amount in enumerate(amounts):
            with (folder / f"{names[j]}.jsonl").open(encoding="utf-8") as file:
                rows = [json.loads(line) for line in file]
            chosen = sample(rows, scored[names[j]], amount)
            drawn += chosen
            found.amounts.append(amount)
            found.scores.append(dict(scored[names[j]]))
            found.quotas.append(Counter(row["instruction"][0] for row in chosen))
        write(drawn, out / f"{names[stage]}.jsonl")
    return found


def distances(folder: Path, names: list[str], stage: int) -> list[float]:
    """Return the exact transport cost from every earlier task to the current one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ot
    encoded = pickle.loads((folder / "vectors.pkl").read_bytes())  # noqa: S301  written by this benchmark
    now, out = encoded[names[stage]], []
    for name in names[:stage]:
        then = encoded[name]
        price = ot.dist(now["vectors"], then["vectors"], metric="cosine")
        out.append(float(ot.emd2(now["shares"], then["shares"], price, numItermax=10_000_000)))
    return out


def share_out(weights: list[float], total: int) -> list[int]:
    """Return whole numbers with the sum ``total``: floors, and the missing units to the largest remainders."""
    quotas = [weight / sum(weights) * total for weight in weights]
    amounts = [int(quota) for quota in quotas]
    by_rest = sorted(range(len(quotas)), key=lambda i: amounts[i] - quotas[i])
    for i in by_rest[: total - sum(amounts)]:
        amounts[i] += 1
    return amounts


def informative(folder: Path, names: list[str], stage: int, phrases: Phrases) -> dict[str, list[tuple[str, float]]]:
    """Return the instructions of every earlier task with their InsInfo, the highest first."""
    tagged = {name: _clean(pickle.loads((folder / f"{name}.tags.pkl").read_bytes())) for name in names}  # noqa: S301
    pool = [tag for name in names[: stage + 1] for item in tagged[name] for tag in item["tags"]]
    merged = merge(tagged, Counter(pool), phrases)
    seen = [item for name in names[: stage + 1] for item in merged[name]]
    frequency = Counter(tag for item in seen for tag in item["tags"])
    out = {}
    for name in names[:stage]:
        scores = [(item["instruction"], score(item["tags"], len(seen), frequency)) for item in merged[name]]
        out[name] = sorted(scores, key=lambda pair: pair[1], reverse=True)
    return out


def score(tags: list[str], n: int, frequency: Counter[str]) -> float:
    """Return the InsInfo of an instruction."""
    return sum(math.log(n / frequency[tag]) for tag in tags)


def _clean(items: Tagged) -> Tagged:
    out = []
    for item in items:
        spelt = [re.sub(r"[^A-Za-z]+", " ", tag.lower()).strip() for tag in item["tags"]]
        out.append({"instruction": item["instruction"], "tags": list(dict.fromkeys(tag for tag in spelt if tag))})
    return out


def merge(tagged: dict[str, Tagged], counts: Counter[str], phrases: Any) -> dict[str, Tagged]:
    """Return all instructions with every clustered tag by the name of its cluster, one cluster after the other."""
    from sklearn.cluster import DBSCAN

    forms = list(counts)
    labels = DBSCAN(eps=EPS, min_samples=MIN_SAMPLES, metric="cosine").fit(phrases.encode(forms)).labels_
    known = [{"tag": forms[i], "label": labels[i], "count": counts[forms[i]]} for i in range(len(forms))]
    for label in range(max(labels) + 1):
        members = sorted((each for each in known if each["label"] == label), key=lambda each: each["count"], reverse=True)
        tagged = _renamed(tagged, [each["tag"] for each in members])
    return tagged


def _renamed(tagged: dict[str, Tagged], members: list[str]) -> dict[str, Tagged]:
    out = {}
    for name, items in tagged.items():
        fresh = []
        for item in items:
            tags: list[str] = []
            for tag in item["tags"]:
                if tag in members:
                    tag = members[0]
                if tag not in tags:
                    tags.append(tag)
            fresh.append({"instruction": item["instruction"], "tags": tags})
        out[name] = fresh
    return out


def sample(rows: list[Row], scored: list[tuple[str, float]], amount: int) -> list[Row]:
    """Return ``amount`` rows: one of each of the best instructions, or more of those that say more and one of each at least."""
    if amount < len(scored):
        wanted, chosen = [instruction for instruction, _ in scored[:amount]], []
        random.shuffle(rows)
        for row in rows:
            if row["instruction"][0] in wanted:
                wanted.remove(row["instruction"][0])
                chosen.append(row)
        return chosen
    chosen, total = [], sum(value for _, value in scored)
    for instruction, value in scored:
        own = [row for row in rows if row["instruction"][0] == instruction]
        chosen += random.sample(own, min(max(int(value / total * amount), 1), len(own)))
    return _levelled(chosen, rows, amount)


def _levelled(chosen: list[Row], rows: list[Row], amount: int) -> list[Row]:
    """Add or take away rows at random until there are ``amount``, and never an instruction's last one."""
    random.shuffle(rows)
    for row in rows:
        if len(chosen) >= amount:
            break
        if row not in chosen:
            chosen.append(row)
    random.shuffle(chosen)
    left = Counter(row["instruction"][0] for row in chosen)
    for row in list(chosen):
        if len(chosen) <= amount:
            break
        if left[row["instruction"][0]] > 1:
            left[row["instruction"][0]] -= 1
            chosen.remove(row)
    return chosen


def write(rows: list[Row], path: Path) -> None:
    """Append rows to a file, which is opened for every one."""
    for row in rows:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
