"""The tables of evidence, from what ``make evidence`` left in ``benchmarks/results``; ``generate.py`` writes them.

A claim stands beside what was measured here. What was not measured has no row, and nothing is rounded in anybody's favour.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"
Row = Mapping[str, Any]


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


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    dashes = ["---" if i == 0 else "--:" for i in range(len(head))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, dashes, *rows))


def made_with() -> str:
    """Return the commit and machine of every table."""
    rows = []
    for name in filter(_measured, ("probe_truth", "laws", "expansion", "replay_policies", "adapters", "real_text")):
        found = _found(name)
        rows.append([f"`benchmarks/{name}.py`", f"`{found.get('commit', 'not kept')}`", found["machine"]])
    return _table(["script", "commit", "machine"], rows)


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


def expansion() -> str:
    """Return what the target gained and the others lost."""
    found, rows = _found("expansion"), list[list[str]]()
    told = [(found["tables"], found["claims"], row, "") for row in found["tables"]["target"]]
    told += [(found["again"], found["claims_again"], row, ", asked again") for row in found.get("again", {}).get("target", ())]
    for tables, claims, row, more in told:
        lost, of = (next(each for each in side if each["arm"] == row["arm"]) for side in (tables["lost"], claims))
        rows.append([row["arm"] + more, str(row["pairs"]), f"{row['mean']:.3f}", f"{of['target_kept']:.1%}", _gap(row),
                     f"{lost['mean']:+.3f}", f"{of['loss_cut']:.1%}", _gap(lost)])  # fmt: skip
    return _table(["second stage", "pairs", "target", "of alone", "minus alone", "others lost", "cut by", "minus alone"], rows)


def replay() -> str:
    """Return what every replay policy kept."""
    found = _found("replay_policies")
    rows = []
    for row in found["tables"]["exact_match"]:
        gain = _row(found, "gain", row["arm"]) if "gain" in found["tables"] else {}
        wide = _gap(row, wide="_corrected")
        rows.append([f"`{row['arm']}`", str(row["pairs"]), f"{row['mean']:.3f}", _gap(row), wide, _p(row),
                     f"{gain['mean']:.1%}" if gain else "-", _gap(gain) if gain else "-"])  # fmt: skip
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
                     f"{text['mean']:+.3f}", f"{of['parameters']:,.0f}", f"{of['seconds']:.1f}"])  # fmt: skip
    head = ["arm", "rate", "new skill", "minus full", "old retained", "minus full", "text, nats", "parameters", "CPU s"]
    return _table(head, rows)


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
    known, grown, kept, tuned = (_found(name) for name in ("laws", "expansion", "replay_policies", "adapters"))
    found, cuts = _found("probe_truth"), {each["arm"]: each for each in grown["claims"]}
    rows = [
        ["a base's mixture can be probed (VersaTune)", "-",
         f"total variation {found['ratio']:.3f}; equal shares {found['sizes']['even_guess']:.3f}"],
        ["weights aligned with it beat uniform ones (VersaTune)", "+35.21 %", _gap(_row(known, "known", "knowledge"))],
        ["weights that follow the learnable potential do (VersaTune)", "the same",
         _gap(_row(known, "known", "knowledge, potential"))],
        ["expansion costs the others less (VersaTune)", "38.77 % less",
_cut(cuts["expansion"])],
        *_ours(known, grown),
        ["replay (stratified) beats none", "-", _gap(_turned(_row(kept, "exact_match", "none")))],
        ["replay by distance beats random replay (InsCL)", "93.3 and 92.0 % of an expert", _distance(kept)],
        ["`spread` beats stratified replay (ours)", "-", _gap(_row(kept, "exact_match", "spread"))],
        ["a lottery ticket keeps old skills (LoTA)", "better than full and LoRA", _lota(tuned)],
    ]  # fmt: skip
    return _table(["claim", "the paper", "here, with 95 % intervals"], rows)


def _ours(known: Mapping[str, Any], grown: Mapping[str, Any]) -> list[list[str]]:
    quick = (grown.get("claims_again") or grown["claims"])[-1]
    again = known.get("again", {}).get("known") or [_row(known, "known", "inverse")]
    return [
        ["the same rule with larger steps and a cap", "-", _cut(quick)],
        ["more of what the base lacks (`inverse`) beats uniform weights", "its control", _gap(again[-1])],
        ["weights that follow progress do, too (ours)", "-", _gap(_row(known, "known", "uniform, progress"))],
    ]  # fmt: skip


def _turned(row: Row) -> Row:
    """Return the difference the other way round."""
    return {"difference": -row["difference"], "low": -row["high"], "high": -row["low"]}


def _cut(claim: Row) -> str:
    return f"{claim['loss_cut']:.1%} less, with {claim['target_kept']:.1%} of the target's score"


def _distance(kept: Mapping[str, Any]) -> str:
    distance, random = (_row(kept, "gain", arm)["mean"] for arm in ("distance", "random"))
    return f"{distance:.1%} and {random:.1%}"


def _lota(tuned: Mapping[str, Any]) -> str:
    lota, half = (
        (_row(tuned, "new", arm)["mean"], _row(tuned, "retained", arm)["mean"]) for arm in ("lota", "full, half the rate")
    )
    return f"new {lota[0]:.3f}, old {lota[1]:.3f}; full at half the rate {half[0]:.3f} and {half[1]:.3f}"


def _measured(*names: str) -> bool:
    """Return whether these were measured, in the form that the tables read."""
    paths = {name: RESULTS / f"{name}.json" for name in names}
    return all(path.is_file() and (name == "probe_truth" or "tables" in _found(name)) for name, path in paths.items())


def _table_of(make: Callable[[], str], *names: str) -> Callable[[], str]:
    return lambda: make() if _measured(*names) else "Not measured yet."


TABLES: Mapping[str, Callable[[], str]] = {
    "probe": _table_of(probe, "probe_truth"),
    "laws": _table_of(laws, "laws"),
    "expansion": _table_of(expansion, "expansion"),
    "replay": _table_of(replay, "replay_policies"),
    "adapters": _table_of(adapters, "adapters"),
    "real-text": _table_of(real_text, "real_text"),
    "made-with": made_with,
}
SUMMARY = _table_of(summary, "probe_truth", "laws", "expansion", "replay_policies", "adapters")
