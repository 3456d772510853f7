"""What a person sees of a prediction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from composer.artifact import Artifact
from flows.screen import LONG, out, table
from flows.trials.measures import measure_of
from flows.trials.view import show_found, show_outlook


def prediction_view(artifact: Artifact) -> list[Any]:
    """Return the tables of a prediction, and what is to be said of it."""
    from flows.prediction.running import document

    return shown(document(artifact))


def shown(document: Mapping[str, Any]) -> list[Any]:
    """Return the tables of a prediction, and what is to be said of it, from its document."""
    told: list[Any] = [_runs(document), _errors(document), _of_domains(document)]
    lines = [document["verdict"]]
    if document["proposal"] is not None:
        told.append(_proposal(document))
        lines += [document["proposed"], f"sft-composer trial RECIPE {document['paste']}"]
    lines += [*(f"warning: {each}" for each in document["warnings"]), document["note"]]
    return [*told, *(Text(line) for line in lines)]


def show(document: Mapping[str, Any]) -> None:
    """Print what was predicted, and where it lies."""
    show_found(document, shown(document), kind="prediction")


def _runs(document: Mapping[str, Any]) -> Any:
    design = document["design"]
    domains = design["domains"] if len(design["domains"]) < LONG else []
    word, of = design["measure"], design["objective"]
    measure = measure_of(word if of == "mean" else f"{word}.{of}")
    rows = [(run["name"], *run["shares"][: len(domains)], run["objective"]) for run in document["runs"]]
    title = f"Short runs of {design['amount']:,}: realised shares, and {measure.said}; {measure.better} is better"
    return table(title, ("run", *domains, "value"), rows)


def _errors(document: Mapping[str, Any]) -> Any:
    rows = [(form, *_cells(error)) for form, error in document["forms"].items()]
    rows.append(("chosen by the other runs", *_cells(document["chosen"])))
    n = len(document["runs"])
    title = f"Errors in {n} runs that were left out one by one (root mean square)"
    return table(title, ("law", "error", "the mean's", "R2"), rows)


def _of_domains(document: Mapping[str, Any]) -> Any:
    rows = [(domain, *_cells(error)) for domain, error in _in_order(document)]
    return table(f"The same of the {document['law']['form']} law, by domain", ("domain", "error", "the mean's", "R2"), rows)


def _in_order(document: Mapping[str, Any]) -> list[tuple[str, Mapping[str, float]]]:
    return [(domain, document["by_domain"][domain]) for domain in document["domains"]]


def _cells(error: Mapping[str, float]) -> tuple[str, str, str]:
    return f"{error['error']:.4f}", f"{error['error_of_mean']:.4f}", f"{error['r2']:.2f}"


def _proposal(document: Mapping[str, Any]) -> Any:
    proposal, design = document["proposal"], document["design"]
    rows = [
        (domain, proposal["weights"][domain], proposal["least"][domain], proposal["most"][domain], cap)
        for domain, cap in zip(design["domains"], design["caps"], strict=True)
    ]
    title = "Proposed weights, their least and most by the laws without one run each, and what the data allows"
    return table(title, ("domain", "weight", "least", "most", "cap"), rows)


def show_preview(document: Mapping[str, Any]) -> None:
    """Print which short runs would be made."""
    design = document["design"]
    laws = {run["name"]: run["changes"]["law"] for run in design["runs"]}
    rows = [(name, *_weights(law, design["domains"])) for name, law in laws.items()]
    said = "" if document["pooled"] else "; the data is not pooled yet, and may bound them"
    out.print(table(f"Short runs of {design['name']}, {design['amount']:,} each{said}", ("run", *design["domains"]), rows))
    out.print(
        f"{len(rows)} runs of seed {design['seed']}; {design['measure']} is predicted, and made best: {design['objective']}."
    )
    show_outlook(document)


def _weights(law: Any, domains: Any) -> list[Any]:
    return [law["weights"].get(domain, 0.0) if isinstance(law, Mapping) else "-" for domain in domains]
