"""Laws and replay policies on real text: two trials of the repository's own recipes, on a small base that reads real documents.

The base (1.0 M parameters) is trained on the spot from ``../shared/data/text`` and writes gibberish; so this says how the
methods behave on real rows, not what they do to a model that reads. The first trial is ``flows/recipes/domains.yaml`` with a
fifth of its budget, by laws; the second four tasks of ``flows/recipes/tasks.yaml`` one after another, by replay policies.
Both are judged by the held-out loss, over three seeds that were used for nothing else, beside every trial's controls.

It resumes where it was stopped (its store is in ``runs/``). With ``--quick`` it makes both plans and runs nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from _harness import QUICK, write_evidence

from composer.progress import listener
from flows.screen import Screen

ROOT = Path(__file__).parents[1]
STORE = ROOT / "runs" / "real-text"
SEEDS, FIRST = 3, 701
TASKS = ("poem_sentiment", "topic_classification", "nli", "commonsense_qa")
TRIALS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "laws": ("domains", "law=knowledge,inverse", ("budget.amount=60_000", "distance=null", "tags=null")),
    "replay": ("tasks", "replay.name=spread,distance", (f"only=[{', '.join(TASKS)}]",)),
}


def trial(what: str) -> dict[str, Any]:
    """Carry out one trial, or find it carried out, and return its document; in a hurry, what it would do."""
    from flows.trials.arms import read_arms
    from flows.trials.design import design
    from flows.trials.running import carried_out, preview

    name, arms, changes = TRIALS[what]
    settings = (
        f"seed={FIRST}",
        "base_model.train.threads=1",
        "train.threads=1",
        *changes,
        "runner={name: process, workers: 2}",
    )
    recipe = ROOT / "flows" / "recipes" / f"{name}.yaml"
    designed = design(recipe, settings, arms=read_arms(arms), seeds=SEEDS, measure="loss")
    store = designed.recipe.store_at(STORE)
    return preview(designed, store) if QUICK else carried_out(designed, store, plain=True)


def main() -> None:
    """Carry out both trials, print their verdicts and keep their tables."""
    if not (ROOT.parent / "shared" / "data").is_dir():
        print(f"{ROOT.parent / 'shared' / 'data'} is not there: nothing is measured")
        return
    listener.set(Screen())
    trials = [{"what": what, **trial(what)} for what in TRIALS]
    for each in trials:
        for said in each.get("verdicts", [f"{each.get('steps')} steps, nothing done"]):
            print(f"{each['what']}: {said}")
    write_evidence("real_text", control="-", sizes={"seeds": SEEDS, "first": FIRST}, tables={}, trials=trials)


if __name__ == "__main__":
    sys.exit(main())
