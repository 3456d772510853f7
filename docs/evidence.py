"""The tables of evidence, from what ``make evidence`` left in ``benchmarks/results``; ``generate.py`` writes them.

A claim stands beside what was measured here. What was not measured has no row, and nothing is rounded in anybody's favour.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from composer.trial import paired

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"
Row = Mapping[str, Any]
NOT_YET = "Not measured yet."


def result(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return found


def row_of(found: Mapping[str, Any], of: str, arm: str) -> Row:
    return next(row for row in found["tables"][of] if row["arm"] == arm)


def gap_of(row: Row, digits: int = 3, *, wide: str = "") -> str:
    if "difference" not in row:
        return "-"
    low, high = (row[f"{end}{wide}"] for end in ("low", "high"))
    return f"{row['difference']:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"


def p_of(row: Row) -> str:
    p = row.get("p_holm")
    return "-" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, words: int = 1) -> str:
    """Return a table whose first columns are words."""
    dashes = ["---" if i < words else "--:" for i in range(len(head))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, dashes, *rows))


def made_with() -> str:
    """Return the commit and machine of every table."""
    rows = []
    for name in filter(is_measured, ("probe_truth", "laws", "expansion", "replay_policies", "adapters", "real_text")):
        found = result(name)
        rows.append([f"`benchmarks/{name}.py`", f"`{found.get('commit', 'not kept')}`", found["machine"]])
    return table(["script", "commit", "machine"], rows, words=3)


def probe() -> str:
    """Return how near the probe came to known mixtures."""
    found = result("probe_truth")
    off = {case: each["total variation"] for case, each in found["costs"].items()}
    rows = []
    for mixture in sorted({case.split()[0] for case in off}):
        own = [value for case, value in off.items() if case.split()[0] == mixture]
        rows.append([mixture, str(len(own)), f"{sum(own) / len(own):.3f}", f"{min(own):.3f}", f"{max(own):.3f}"])
    mean = found["ratio"]
    rows.append(["all", str(len(off)), f"**{mean:.3f}**", f"{min(off.values()):.3f}", f"{max(off.values()):.3f}"])
    rows.append(["guessing equal shares", str(len(off)), f"{found['sizes']['even_guess']:.3f}", "-", "-"])
    return table(["mixture of the base", "bases", "total variation, mean", "least", "most"], rows)


def laws() -> str:
    """Return what every law made of the same budget."""
    found = result("laws")
    rows = []
    told = [(found["tables"], row, "") for row in found["tables"]["known"]]
    told += [(found["again"], row, ", asked again") for row in found.get("again", {}).get("known", ())[1:]]
    for tables, row, more in told:
        new, loss = (next(each for each in tables[of] if each["arm"] == row["arm"]) for of in ("new", "loss"))
        rows.append([row["arm"] + more, str(row["pairs"]), f"{row['mean']:.3f}", gap_of(row), p_of(row),
                     f"{new['mean']:.3f}", gap_of(new), f"{loss['mean']:.3f}", gap_of(loss), p_of(loss)])  # fmt: skip
    head = ["weights", "pairs", "known", "minus uniform", "p", "new", "minus uniform", "loss", "minus uniform", "p"]
    return table(head, rows)


def shares() -> str:
    """Return what weights like the base's own did to domains that it knows little, some and most of."""
    found, rows = result("laws"), list[list[str]]()
    scores: dict[tuple[str, int, str], list[float]] = {}
    for run in found["runs"]:
        for domain, value in run["by_domain"].items() if run["seed"] in found["sizes"]["seeds"] else ():
            scores.setdefault((run["arm"], run["world"], domain), []).append(value)
    mean = {cell: sum(values) / len(values) for cell, values in scores.items()}
    for words, low, high in (("below 10 %", 0, 0.1), ("10 to 25 %", 0.1, 0.25), ("above 25 %", 0.25, 1.01)):
        cells = [
            (int(world), domain)
            for world, knows in found["sizes"]["knows"].items()
            for domain, p in zip(found["runs"][0]["by_domain"], knows, strict=True)
            if low <= p < high
        ]
        if len(cells) > 1:
            uniform, knowledge = ([mean[(arm, *cell)] for cell in cells] for arm in ("uniform", "knowledge"))
            gap = gap_of(paired(knowledge, uniform).model_dump())
            rows.append([words, str(len(cells)), *(f"{sum(side) / len(side):.3f}" for side in (uniform, knowledge)), gap])
    return table(["the base's share", "domains", "known, uniform", "known, knowledge", "difference"], rows)


def expansion() -> str:
    """Return what the target gained and the others lost."""
    found, rows = result("expansion"), list[list[str]]()
    told = [(found["tables"], found["claims"], row, "") for row in found["tables"]["target"]]
    told += [(found["again"], found["claims_again"], row, ", asked again") for row in found.get("again", {}).get("target", ())]
    for tables, claims, row, more in told:
        lost, of = (next(each for each in side if each["arm"] == row["arm"]) for side in (tables["lost"], claims))
        rows.append([row["arm"] + more, str(row["pairs"]), f"{row['mean']:.3f}", percent(of['target_kept']), gap_of(row),
                     f"{lost['mean']:+.3f}", percent(of['loss_cut']), gap_of(lost)])  # fmt: skip
    return table(["second stage", "pairs", "target", "of alone", "minus alone", "others lost", "cut by", "minus alone"], rows)


def replay() -> str:
    """Return what every replay policy kept."""
    found = result("replay_policies")
    rows = []
    for row in found["tables"]["exact_match"]:
        gain = row_of(found, "gain", row["arm"]) if "gain" in found["tables"] else {}
        wide = gap_of(row, wide="_corrected")
        rows.append([f"`{row['arm']}`", str(row["pairs"]), f"{row['mean']:.3f}", gap_of(row), wide, p_of(row),
                     percent(gain['mean']) if gain else "-", gap_of(gain) if gain else "-"])  # fmt: skip
    head = ["policy", "pairs", "exact match", f"minus {found['control']}", "corrected", "p", "relative gain", "minus it"]
    return table(head, rows)


def adapters() -> str:
    """Return what every adapter learned and kept."""
    found = result("adapters")
    cost = {each["arm"]: each for each in found["costs"]}
    rows = []
    for row in found["tables"]["new"]:
        kept, text, of = row_of(found, "retained", row["arm"]), row_of(found, "text", row["arm"]), cost[row["arm"]]
        rows.append([row["arm"], f"{of['rate']:.0e}", f"{row['mean']:.3f}", gap_of(row), f"{kept['mean']:.3f}", gap_of(kept),
                     *both(found, row["arm"]), f"{text['mean']:+.3f}", f"{of['parameters']:,.0f}",
                     f"{of['optimizer_mb']:.2f}", f"{of['seconds']:.1f}"])  # fmt: skip
    head = ["arm", "rate", "new skill", "minus full", "old retained", "minus full", "both", "minus full", "text, nats",
            "parameters", "AdamW, MB", "CPU s"]  # fmt: skip
    return table(head, rows)


def real_text() -> str:
    """Return what the trials on real text said."""
    rows = []
    for trial in result("real_text")["trials"]:
        for each in trial["comparisons"]["loss"]:
            rows.append([trial["what"], f"{each['arm']} - {each['control']}", str(each["found"]["n"]),
                         gap_of(each["found"]), p_of(each), each["outcome"]])  # fmt: skip
    return table(["trial", "arms", "seeds", "difference in loss, nats", "p", "verdict"], rows)


def summary() -> str:
    """Return the README's table: every claim beside what was measured of it."""
    of = {"probe_truth": _of_probe, "laws": _of_laws, "expansion": _of_expansion, "replay_policies": _of_replay,
          "adapters": _of_adapters}  # fmt: skip
    rows = [row for name, rows in of.items() if is_measured(name) for row in rows(result(name))]
    return table(["claim", "the paper", "here, with 95 % intervals"], rows, words=3) if rows else NOT_YET


def _of_probe(found: Mapping[str, Any]) -> list[list[str]]:
    told = f"total variation {found['ratio']:.3f}; equal shares {found['sizes']['even_guess']:.3f}"
    return [["a base's mixture can be probed (VersaTune)", "-", told]]


def _of_laws(found: Mapping[str, Any]) -> list[list[str]]:
    again = found.get("again", {}).get("known") or [row_of(found, "known", "inverse")]
    return [
        [
            "weights aligned with what the base knows beat uniform ones (VersaTune)",
            "+35.21 %",
            gap_of(row_of(found, "known", "knowledge")),
        ],
        [
            "weights that follow the potential beat uniform ones (VersaTune)",
            "the same",
            gap_of(row_of(found, "known", "knowledge, potential")),
        ],
        ["weights that favour what the base lacks (`inverse`) beat uniform ones", "its control", gap_of(again[-1])],
        ["weights that follow progress beat uniform ones (ours)", "-", gap_of(row_of(found, "known", "uniform, progress"))],
    ]


def _of_expansion(found: Mapping[str, Any]) -> list[list[str]]:
    again = found.get("again", {}).get("target")
    last = found["claims_again"][-1] if again else found["claims"][-1]
    quick = again[-1] if again else row_of(found, "target", last["arm"])
    claim = next(each for each in found["claims"] if each["arm"] == "expansion")
    return [
        ["expansion costs the others less (VersaTune)", "38.77 % less", _cut(claim, row_of(found, "target", "expansion"))],
        ["the same rule with larger steps and a cap", "-", _cut(last, quick)],
    ]


def _of_replay(found: Mapping[str, Any]) -> list[list[str]]:
    return [
        ["replay (stratified) beats none", "-", gap_of(_turned(row_of(found, "exact_match", "none")))],
        ["replay by distance beats random replay (InsCL), of relative gain", "93.3 and 92.0 %", _distance(found)],
        ["`spread` beats stratified replay (ours)", "-", gap_of(row_of(found, "exact_match", "spread"))],
    ]


def _of_adapters(found: Mapping[str, Any]) -> list[list[str]]:
    full, lora, half = (gap_of(skill(found, "lota", arm)[1]) for arm in ("full", "lora", "full, half the rate"))
    of = "in the harmonic mean of new and old skill"
    return [
        [f"a lottery ticket beats full fine-tuning and LoRA (LoTA), {of}", "it does", f"{full} and {lora}"],
        ["the same against full fine-tuning at half the rate", "-", half],
    ]


def _turned(row: Row) -> Row:
    """Return the difference the other way round."""
    return {"difference": -row["difference"], "low": -row["high"], "high": -row["low"]}


def _cut(claim: Row, target: Row) -> str:
    return f"{percent(claim['loss_cut'])} less, with {percent(claim['target_kept'])} of the target's score: {gap_of(target)}"


def _distance(found: Mapping[str, Any]) -> str:
    """Return the relative gains of replay by distance and at random, and their paired difference."""
    means, row = between(found, "distance", "random", of=lambda run: run["gain"])
    return f"{' and '.join(map(percent, means))}: {gap_of(row)}"


def between(found: Row, arm: str, other: str, *, of: Callable[[Row], float]) -> tuple[tuple[float, float], Row]:
    """Return the means of two arms over the pairs that both have, and their paired difference."""
    value = {(run["arm"], run["world"], run["seed"]): of(run) for run in found["runs"] if run["arm"] in (arm, other)}
    pairs = [pair for who, *pair in value if who == other and (arm, *pair) in value]
    mine, theirs = ([value[(who, *pair)] for pair in pairs] for who in (arm, other))
    return (sum(mine) / len(mine), sum(theirs) / len(theirs)), paired(mine, theirs).model_dump()


def skill(found: Row, arm: str, other: str) -> tuple[tuple[float, float], Row]:
    """Return two arms' harmonic means of new and old skill, by which rates were chosen, and their paired difference."""
    return between(found, arm, other, of=lambda run: 2 * run["new"] * run["old"] / ((run["new"] + run["old"]) or 1))


def both(found: Row, arm: str) -> tuple[str, str]:
    (mine, _), row = skill(found, arm, found["control"])
    return f"{mine:.3f}", "-" if arm == found["control"] else gap_of(row)


def is_measured(*names: str) -> bool:
    """Return whether these were measured, in the form that the tables read."""
    paths = {name: RESULTS / f"{name}.json" for name in names}
    return all(path.is_file() and (name == "probe_truth" or "tables" in result(name)) for name, path in paths.items())


def if_measured(make: Callable[[], str], *names: str) -> Callable[[], str]:
    return lambda: make() if is_measured(*names) else NOT_YET


TABLES: Mapping[str, Callable[[], str]] = {
    "probe": if_measured(probe, "probe_truth"),
    "laws": if_measured(laws, "laws"),
    "shares": if_measured(shares, "laws"),
    "expansion": if_measured(expansion, "expansion"),
    "replay": if_measured(replay, "replay_policies"),
    "adapters": if_measured(adapters, "adapters"),
    "real-text": if_measured(real_text, "real_text"),
    "made-with": made_with,
}
