"""Laws and replay policies on real text: two trials of the repository's own recipes, on a small base that reads real documents.

The base (1.0 M parameters) is trained on the spot from ``../shared/data/text`` and writes gibberish; so this says how the
methods behave on real rows, not what they do to a model that reads. The first trial is ``flows/recipes/domains.yaml`` with a
fifth of its budget, by laws; the second four tasks of ``flows/recipes/tasks.yaml`` one after another, by replay policies.
Both are judged by the held-out loss, over three seeds that were used for nothing else, beside every trial's controls.

It resumes where it was stopped (its stores are in ``runs/``). Without the data it says so and measures nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from _harness import QUICK, write_evidence

ROOT = Path(__file__).parents[1]
STORE = ROOT / "runs" / ("real-text-quick" if QUICK else "real-text")
SEEDS, FIRST = (2 if QUICK else 3), 701
SMALL = (  # what is enough to see that it runs
    "base_model.train.tokens=20_000", "base_model.train.hidden=64", "base_model.train.layers=1", "base_model.train.heads=2",
    "evaluate.max_samples=4",
)  # fmt: skip
TASKS = ("poem_sentiment", "topic_classification", "nli", "commonsense_qa")
TRIALS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "laws": (
        "domains",
        ("law=knowledge,inverse",),
        (f"budget.amount={2_000 if QUICK else 60_000}", "distance=null", "tags=null"),
    ),
    "replay": ("tasks", ("replay=spread,distance",), (f"only=[{', '.join(TASKS[:2] if QUICK else TASKS)}]",)),
}


def trial(what: str) -> dict[str, Any]:
    """Carry out one trial, or find it carried out, and return its document."""
    from flows.trials.arms import read_arms
    from flows.trials.design import design
    from flows.trials.running import carried_out

    name, arms, changes = TRIALS[what]
    settings = (f"seed={FIRST}", "base_model.train.threads=1", "train.threads=1", *changes, *(SMALL if QUICK else ()))
    designed = design(
        ROOT / "flows" / "recipes" / f"{name}.yaml", [*settings, "runner={name: process, workers: 2}"],
        arms=[each for text in arms for each in read_arms(text)], seeds=SEEDS, measure="loss",
    )  # fmt: skip
    return carried_out(designed, designed.recipe.store_at(STORE), plain=True)


def main() -> None:
    """Carry out both trials, print their verdicts and keep their tables."""
    if not (ROOT.parent / "shared" / "data").is_dir():
        print(f"{ROOT.parent / 'shared' / 'data'} is not there: nothing is measured")
        return
    trials = []
    for what in ("laws",) if QUICK else TRIALS:
        document = trial(what)
        trials.append({"what": what, **document})
        for each in document["verdicts"]:
            print(f"{what}: {each}")
    write_evidence("real_text", control="-", sizes={"seeds": SEEDS, "first": FIRST}, tables={}, trials=trials)


if __name__ == "__main__":
    sys.exit(main())
