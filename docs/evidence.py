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


def _found(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return found


def _row(found: Mapping[str, Any], of: str, arm: str) -> Row:
    return next(row for row in found["tables"][of] if row["arm"] == arm)


def _gap(row: Row, digits: int = 3, *, wide: str = "") -> str:
    if "difference" not in row:
        return "-"
    low, high = (row[f"{end}{wide}"] for end in ("low", "high"))
    return f"{row['difference']:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"


def _p(row: Row) -> str:
    p = row.get("p_holm")
    return "-" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, words: int = 1) -> str:
    """Return a table whose first columns are words."""
    dashes = ["---" if i < words else "--:" for i in range(len(head))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, dashes, *rows))


def made_with() -> str:
    """Return the commit and machine of every table."""
    rows = []
    for name in filter(_measured, ("probe_truth", "laws", "expansion", "replay_policies", "adapters", "real_text")):
        found = _found(name)
        rows.append([f"`benchmarks/{name}.py`", f"`{found.get('commit', 'not kept')}`", found["machine"]])
    return _table(["script", "commit", "machine"], rows, words=3)


def probe() -> str:
    """Return how near the probe came to known mixtures."""
    found = _found("probe_truth")
    off = {case: each["total variation"] for case, each in found["costs"].items()}
    rows = []
    for mixture in sorted({case.split()[0] for case in off}):
        own = [value for case, value in off.items() if case.split()[0] == mixture]
        rows.append([mixture, str(len(own)), f"{sum(own) / len(own):.3f}", f"{min(own):.3f}", f"{max(own):.3f}"])
    mean = found["ratio"]
    rows.append(["all", str(len(off)), f"**{mean:.3f}**", f"{min(off.values()):.3f}", f"{max(off.values()):.3f}"])
    rows.append(["guessing equal shares", str(len(off)), f"{found['sizes']['even_guess']:.3f}", "-", "-"])
    return _table(["mixture of the base", "bases", "total variation, mean", "least", "most"], rows)


def laws() -> str:
    """Return what every law made of the same budget."""
    found = _found("laws")
    rows = []
    told = [(found["tables"], row, "") for row in found["tables"]["known"]]
    told += [(found["again"], row, ", asked again") for row in found.get("again", {}).get("known", ())[1:]]
    for tables, row, more in told:
        new, loss = (next(each for each in tables[of] if each["arm"] == row["arm"]) for of in ("new", "loss"))
        rows.append([row["arm"] + more, str(row["pairs"]), f"{row['mean']:.3f}", _gap(row), _p(row),
                     f"{new['mean']:.3f}", _gap(new), f"{loss['mean']:.3f}", _gap(loss), _p(loss)])  # fmt: skip
    head = ["weights", "pairs", "known", "minus uniform", "p", "new", "minus uniform", "loss", "minus uniform", "p"]
    return _table(head, rows)


def shares() -> str:
    """Return what weights like the base's own did to domains that it knows little, some and most of."""
    found, rows = _found("laws"), list[list[str]]()
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
            gap = _gap(paired(knowledge, uniform).model_dump())
            rows.append([words, str(len(cells)), *(f"{sum(side) / len(side):.3f}" for side in (uniform, knowledge)), gap])
    return _table(["the base's share", "domains", "known, uniform", "known, knowledge", "difference"], rows)


def expansion() -> str:
    """Return what the target gained and the others lost."""
    found, rows = _found("expansion"), list[list[str]]()
    told = [(found["tables"], found["claims"], row, "") for row in found["tables"]["target"]]
    told += [(found["again"], found["claims_again"], row, ", asked again") for row in found.get("again", {}).get("target", ())]
    for tables, claims, row, more in told:
        lost, of = (next(each for each in side if each["arm"] == row["arm"]) for side in (tables["lost"], claims))
        rows.append([row["arm"] + more, str(row["pairs"]), f"{row['mean']:.3f}", _share(of['target_kept']), _gap(row),
                     f"{lost['mean']:+.3f}", _share(of['loss_cut']), _gap(lost)])  # fmt: skip
    return _table(["second stage", "pairs", "target", "of alone", "minus alone", "others lost", "cut by", "minus alone"], rows)


def replay() -> str:
    """Return what every replay policy kept."""
    found = _found("replay_policies")
    rows = []
    for row in found["tables"]["exact_match"]:
        gain = _row(found, "gain", row["arm"]) if "gain" in found["tables"] else {}
        wide = _gap(row, wide="_corrected")
        rows.append([f"`{row['arm']}`", str(row["pairs"]), f"{row['mean']:.3f}", _gap(row), wide, _p(row),
                     _share(gain['mean']) if gain else "-", _gap(gain) if gain else "-"])  # fmt: skip
    head = ["policy", "pairs", "exact match", f"minus {found['control']}", "corrected", "p", "relative gain", "minus it"]
    return _table(head, rows)


def adapters() -> str:
    """Return what every adapter learned and kept."""
    found = _found("adapters")
    cost = {each["arm"]: each for each in found["costs"]}
    rows = []
    for row in found["tables"]["new"]:
        kept, text, of = _row(found, "retained", row["arm"]), _row(found, "text", row["arm"]), cost[row["arm"]]
        rows.append([row["arm"], f"{of['rate']:.0e}", f"{row['mean']:.3f}", _gap(row), f"{kept['mean']:.3f}", _gap(kept),
                     *_both(found, row["arm"]), f"{text['mean']:+.3f}", f"{of['parameters']:,.0f}",
                     f"{of['optimizer_mb']:.2f}", f"{of['seconds']:.1f}"])  # fmt: skip
    head = ["arm", "rate", "new skill", "minus full", "old retained", "minus full", "both", "minus full", "text, nats",
            "parameters", "AdamW, MB", "CPU s"]  # fmt: skip
    return _table(head, rows)


def which_adapter() -> str:
    """Return of every adapter what it learned, what it kept, the two together and what AdamW held."""
    found = _found("adapters")
    rows = []
    for row in found["tables"]["new"]:
        kept, of = _row(found, "retained", row["arm"]), next(each for each in found["costs"] if each["arm"] == row["arm"])
        rows.append([row["arm"], f"{row['mean']:.3f}", f"{kept['mean']:.3f}", *_both(found, row["arm"]),
                     f"{of['optimizer_mb']:.2f}"])  # fmt: skip
    return _table(["arm", "new skill", "old skill retained", "both", "minus full", "AdamW, MB"], rows)


def real_text() -> str:
    """Return what the trials on real text said."""
    rows = []
    for trial in _found("real_text")["trials"]:
        for each in trial["comparisons"]["loss"]:
            rows.append([trial["what"], f"{each['arm']} - {each['control']}", str(each["found"]["n"]),
                         _gap(each["found"]), _p(each), each["outcome"]])  # fmt: skip
    return _table(["trial", "arms", "seeds", "difference in loss, nats", "p", "verdict"], rows)


def summary() -> str:
    """Return the README's table: every claim beside what was measured of it."""
    of = {"probe_truth": _of_probe, "laws": _of_laws, "expansion": _of_expansion, "replay_policies": _of_replay,
          "adapters": _of_adapters}  # fmt: skip
    rows = [row for name, rows in of.items() if _measured(name) for row in rows(_found(name))]
    return _table(["claim", "the paper", "here, with 95 % intervals"], rows, words=3) if rows else NOT_YET


def _of_probe(found: Mapping[str, Any]) -> list[list[str]]:
    told = f"total variation {found['ratio']:.3f}; equal shares {found['sizes']['even_guess']:.3f}"
    return [["a base's mixture can be probed (VersaTune)", "-", told]]


def _of_laws(found: Mapping[str, Any]) -> list[list[str]]:
    again = found.get("again", {}).get("known") or [_row(found, "known", "inverse")]
    return [
        [
            "weights aligned with what the base knows beat uniform ones (VersaTune)",
            "+35.21 %",
            _gap(_row(found, "known", "knowledge")),
        ],
        [
            "weights that follow the potential beat uniform ones (VersaTune)",
            "the same",
            _gap(_row(found, "known", "knowledge, potential")),
        ],
        ["weights that favour what the base lacks (`inverse`) beat uniform ones", "its control", _gap(again[-1])],
        ["weights that follow progress beat uniform ones (ours)", "-", _gap(_row(found, "known", "uniform, progress"))],
    ]


def _of_expansion(found: Mapping[str, Any]) -> list[list[str]]:
    again = found.get("again", {}).get("target")
    last = found["claims_again"][-1] if again else found["claims"][-1]
    quick = again[-1] if again else _row(found, "target", last["arm"])
    claim = next(each for each in found["claims"] if each["arm"] == "expansion")
    return [
        ["expansion costs the others less (VersaTune)", "38.77 % less", _cut(claim, _row(found, "target", "expansion"))],
        ["the same rule with larger steps and a cap", "-", _cut(last, quick)],
    ]


def _of_replay(found: Mapping[str, Any]) -> list[list[str]]:
    return [
        ["replay (stratified) beats none", "-", _gap(_turned(_row(found, "exact_match", "none")))],
        ["replay by distance beats random replay (InsCL), of relative gain", "93.3 and 92.0 %", _distance(found)],
        ["`spread` beats stratified replay (ours)", "-", _gap(_row(found, "exact_match", "spread"))],
    ]


def _of_adapters(found: Mapping[str, Any]) -> list[list[str]]:
    full, lora, half = (_gap(_skill(found, "lota", arm)[1]) for arm in ("full", "lora", "full, half the rate"))
    skill = "in the harmonic mean of new and old skill"
    return [
        [f"a lottery ticket beats full fine-tuning and LoRA (LoTA), {skill}", "it does", f"{full} and {lora}"],
        ["the same against full fine-tuning at half the rate", "-", half],
    ]


def _turned(row: Row) -> Row:
    """Return the difference the other way round."""
    return {"difference": -row["difference"], "low": -row["high"], "high": -row["low"]}


def _cut(claim: Row, target: Row) -> str:
    return f"{_share(claim['loss_cut'])} less, with {_share(claim['target_kept'])} of the target's score: {_gap(target)}"


def _distance(found: Mapping[str, Any]) -> str:
    """Return the relative gains of replay by distance and at random, and their paired difference."""
    means, row = _between(found, "distance", "random", of=lambda run: run["gain"])
    return f"{' and '.join(map(_share, means))}: {_gap(row)}"


def _between(found: Row, arm: str, other: str, *, of: Callable[[Row], float]) -> tuple[tuple[float, float], Row]:
    """Return the means of two arms over the pairs that both have, and their paired difference."""
    value = {(run["arm"], run["world"], run["seed"]): of(run) for run in found["runs"] if run["arm"] in (arm, other)}
    pairs = [pair for who, *pair in value if who == other and (arm, *pair) in value]
    mine, theirs = ([value[(who, *pair)] for pair in pairs] for who in (arm, other))
    return (sum(mine) / len(mine), sum(theirs) / len(theirs)), paired(mine, theirs).model_dump()


def _skill(found: Row, arm: str, other: str) -> tuple[tuple[float, float], Row]:
    """Return two arms' harmonic means of new and old skill, by which rates were chosen, and their paired difference."""
    return _between(found, arm, other, of=lambda run: 2 * run["new"] * run["old"] / ((run["new"] + run["old"]) or 1))


def _both(found: Row, arm: str) -> tuple[str, str]:
    (mine, _), row = _skill(found, arm, found["control"])
    return f"{mine:.3f}", "-" if arm == found["control"] else _gap(row)


def _measured(*names: str) -> bool:
    """Return whether these were measured, in the form that the tables read."""
    paths = {name: RESULTS / f"{name}.json" for name in names}
    return all(path.is_file() and (name == "probe_truth" or "tables" in _found(name)) for name, path in paths.items())


def _table_of(make: Callable[[], str], *names: str) -> Callable[[], str]:
    return lambda: make() if _measured(*names) else NOT_YET


TABLES: Mapping[str, Callable[[], str]] = {
    "probe": _table_of(probe, "probe_truth"),
    "laws": _table_of(laws, "laws"),
    "shares": _table_of(shares, "laws"),
    "expansion": _table_of(expansion, "expansion"),
    "replay": _table_of(replay, "replay_policies"),
    "adapters": _table_of(adapters, "adapters"),
    "real-text": _table_of(real_text, "real_text"),
    "made-with": made_with,
}
BRIEF = _table_of(which_adapter, "adapters")
