"""What a person sees of a trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from composer.artifact import Artifact
from flows.screen import LONG, out, table
from flows.trials.measures import measure_of


def trial_view(artifact: Artifact) -> list[Any]:
    """Return the tables of a trial, and its verdicts."""
    from flows.trials.running import document

    return shown(document(artifact))


def shown(document: Mapping[str, Any]) -> list[Any]:
    """Return the tables of a trial, and its verdicts, from its document."""
    told: list[Any] = [_runs(document), _differences(document), _others(document), _costs(document)]
    lines = [*document["verdicts"], *(f"warning: {each}" for each in document["warnings"]), document["note"]]
    return [*told, *(Text(line) for line in lines)]


def show(document: Mapping[str, Any]) -> None:
    """Print what a trial found, and where it lies."""
    show_found(document, shown(document), kind="trial")


def show_found(document: Mapping[str, Any], lines: Sequence[Any], *, kind: str) -> None:
    """Print what a plan of many runs found, what was done for it, and where it lies."""
    for each in lines:
        out.print(each, soft_wrap=isinstance(each, Text))
    out.print(
        f"{document['made']} of {document['steps']} steps done in {document['minutes']:.1f} minutes, the others were there."
    )
    out.print(f"{document[kind]} in {document['store']} (sft-composer show {kind})", soft_wrap=True, markup=False)


def _runs(document: Mapping[str, Any]) -> Any:
    design, values = document["design"], document["values"][document["design"]["measure"]]
    measure = measure_of(design["measure"])
    short = len(design["seeds"]) <= LONG
    rows = [
        (arm["name"], "control" if arm["why"] else "judged", sum(values[arm["name"]]) / len(design["seeds"]),
         *(values[arm["name"]] if short else ()))
        for arm in design["arms"]
    ]  # fmt: skip
    seeds = [f"seed {seed}" for seed in design["seeds"]] if short else []
    return table(f"{measure.said.capitalize()}; {measure.better} is better", ("arm", "", "mean", *seeds), rows, text=2)


def _differences(document: Mapping[str, Any]) -> Any:
    measure = document["design"]["measure"]
    ends = ("difference", "low", "high", "low_corrected", "high_corrected")
    found = document["comparisons"][measure]
    rows = [(_pair(each), *(f"{each['found'][end]:+.3f}" for end in ends), each["p_holm"]) for each in found]
    n = len(rows)
    columns = ("arm - control", "mean", "2.5 %", "97.5 %", f"for all {n}", "", "p")
    return table(f"Paired differences in {measure}, with 95 % intervals for one and for all {n} of them", columns, rows)


def _others(document: Mapping[str, Any]) -> Any:
    judged = document["design"]["measure"]
    others = [name for name, found in document["comparisons"].items() if found and name != judged]
    rows = [
        (_pair(each), *(_cell(document["comparisons"][name][i]["found"]) for name in others))
        for i, each in enumerate(document["comparisons"][judged])
    ]
    return table("Other measures, not judged: paired differences, 95 % for one", ("arm - control", *others), rows)


def _pair(comparison: Mapping[str, Any]) -> str:
    return f"{comparison['arm']} - {comparison['control']}"


def _cell(found: Mapping[str, Any]) -> str:
    return f"{found['difference']:+.3f} ± {found['high'] - found['difference']:.3f}"


def _costs(document: Mapping[str, Any]) -> Any:
    rows = []
    for arm in (each["name"] for each in document["design"]["arms"]):
        told, spent = document["trained"][arm], document["spent"][arm]
        counts = (round(told[name]) for name in ("steps", "loss_tokens", "parameters"))
        rows.append((arm, *counts, told["optimizer_bytes"] / 1e6, spent["seconds"], spent["cpu_seconds"]))
    columns = ("arm", "steps", "loss tokens", "moved", "AdamW, MB", "seconds", "CPU s")
    return table("Cost of training, the mean over the seeds; how many parameters moved", columns, rows)


def show_preview(document: Mapping[str, Any]) -> None:
    """Print what a trial would do."""
    from flows.trials.arms import Arm

    design = document["design"]
    rows = [(arm["name"], arm["why"] or "judged", str(Arm(**arm))) for arm in design["arms"]]
    out.print(table(f"Arms of the trial of {design['name']}", ("arm", "control for", "changes"), rows, text=3))
    seeds = f"seeds {design['seeds'][0]} to {design['seeds'][-1]}"
    out.print(
        f"{document['runs']} runs over {seeds}; judged by {design['measure']}, a difference of {design['worth']:g} counts."
    )
    for unlike in document["warnings"]:
        out.print(f"warning: {unlike}", soft_wrap=True, markup=False)
    show_outlook(document)


def show_outlook(document: Mapping[str, Any]) -> None:
    """Print what is to do of a plan of many runs, and what it would cost."""
    to_do = ", ".join(f"{name} {n}" for name, n in document["to_do"].items())
    n = sum(document["to_do"].values())
    out.print(f"{n} of {document['steps']} steps to do: {to_do or '-'}. {document['shared']} steps are of all runs.")
    took = document["seconds"]
    told = (
        "not known until one run is done" if took is None else f"about {took:,.0f} s by what is there, one step after another"
    )
    out.print(f"Cost to come: {told}. Nothing was done.")
