"""What the commands print: the plan, the run's summary, one artifact, the list. Dataset text is escaped before it is shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.text import Text

from composer.artifact import Artifact, Store
from flows.instruction_views import INSTRUCTION_VIEWS
from flows.mask_view import mask_view
from flows.plan import Plan, Step
from flows.prediction.view import prediction_view
from flows.routing_views import routing_view
from flows.screen import LONG, err, number, out, table
from flows.trials.view import trial_view

COUNTS = ("rows", "tokens", "loss_tokens")


def artifact_row(artifact: Artifact) -> dict[str, Any]:
    """Return one line of the list."""
    manifest = artifact.manifest
    return {
        "kind": artifact.kind,
        "key": artifact.key,
        "made": manifest.made["at"],
        "seconds": manifest.made["seconds"],
        "bytes": sum(record.n_bytes for record in manifest.files.values()),
        "path": str(artifact.path),
    }


def plan_document(plan: Plan, store: Store) -> dict[str, Any]:
    """Return what a run would do: every step with its key, whether it is there, and what is known of its size."""
    from flows.estimate import estimate

    steps = [{
        "step": step.label, "kind": step.stage.kind, "key": step.key,
        "present": store.find(step.stage.kind, step.key) is not None,
    } for step in plan]  # fmt: skip
    return {"recipe": plan.recipe.name, "store": str(store), "steps": steps, **estimate(plan, store)}


def show_plan(document: Mapping[str, Any]) -> None:
    """Print a plan."""
    rows = [(s["step"], f"{s['kind']}/{s['key']}", "there" if s["present"] else "to do") for s in document["steps"]]
    out.print(table(f"Plan of {document['recipe']}", ("step", "artifact", ""), rows, text=3))
    sources = [(s["name"], s["rows"], s["tokens"]) for s in document["sources"]]
    out.print(table("Sources", ("source", "rows", "tokens"), sources))
    names = ("step", "calls", "tokens", "prompt_tokens", "output_tokens", "seconds", "device_hours")
    calls = [tuple(call.get(name) for name in names) for call in document["model_calls"]]
    if calls:
        told = ("step", "calls", "tokens", "read", "written", "seconds", "hours")
        out.print(table("Model calls to do (at most)", told, calls))
        if any("seconds" in call and call["seconds"] is None for call in document["model_calls"]):
            out.print("sft-composer estimate RECIPE measures the seconds of the probe on its engine.")
    to_do = sum(not s["present"] for s in document["steps"])
    out.print(f"{to_do} of {len(document['steps'])} steps to do in {document['store']}; nothing was done. {document['note']}")


def teller(steps: list[dict[str, Any]]) -> Callable[[Step, Artifact, bool], None]:
    """Return a listener that prints every finished step on stderr and remembers it."""

    def told(step: Step, artifact: Artifact, was_there: bool) -> None:
        seconds = 0.0 if was_there else artifact.manifest.made["seconds"]
        err.print(
            f"  {'there' if was_there else f'{seconds:.1f} s':>8}  {step.label:28s} {artifact.kind}/{artifact.key}",
            markup=False,
        )
        steps.append({
            "step": step.label, "kind": artifact.kind, "key": artifact.key, "path": str(artifact.path),
            "state": "present" if was_there else "made", "seconds": seconds,
        })  # fmt: skip

    return told


def show_run(document: Mapping[str, Any], artifacts: Mapping[str, Artifact]) -> None:
    """Print the summary of a run: what was found, what was decided, what was kept, and where things lie."""
    kinds = {artifact.kind: artifact for artifact in artifacts.values()}  # the last of a kind speaks for it
    last = next(reversed(kinds))  # what a command was asked for
    told = ["samples", "knowledge", "similarity", "composition", "retention"]
    for kind in dict.fromkeys([*told, last]):
        for shown in VIEWS[kind](kinds[kind]) if kind in kinds and kind in VIEWS else ():
            out.print(shown)
    if document["steps"]:
        made = [step["seconds"] for step in document["steps"] if step["state"] == "made"]
        out.print(f"{len(made)} steps done in {sum(made):.0f} s, {len(document['steps']) - len(made)} were there.")
    for kind in dict.fromkeys(["export", "model", last]):
        if kind in kinds:
            out.print(f"{kind}: {kinds[kind].path}", soft_wrap=True, markup=False)
    out.print(f"store: {document['store']} (sft-composer ls | show | why)", soft_wrap=True, markup=False)


def show_artifact(artifact: Artifact, store: Store) -> None:
    """Print one artifact."""
    manifest = artifact.manifest
    out.print(
        f"{artifact.kind}/{artifact.key}, made in {manifest.made['seconds']} s on {manifest.made['machine']}", markup=False
    )
    if artifact.kind == "run":
        members = [store.find(each["kind"], each["key"]) for each in artifact.json("run.json")["artifacts"]]
        found = {f"{i}": each for i, each in enumerate(members) if each}
        return show_run({"steps": [], "store": str(store)}, found)
    view = VIEWS.get(artifact.kind)
    for shown in view(artifact) if view else ():
        out.print(shown)
    out.print(table("Files", ("file", "rows", "bytes"), [(n, r.rows, r.n_bytes) for n, r in manifest.files.items()]))
    out.print(f"stats: {json.dumps(manifest.stats, ensure_ascii=False)[:2000]}", markup=False)
    out.print(f"lies in {artifact.path}", soft_wrap=True, markup=False)
    return None


def _samples(artifact: Artifact) -> list[Group]:
    import polars as pl

    domains = artifact.manifest.stats["domains"]
    rows = [(d, r, c["samples"], c["tokens"], c["loss_tokens"]) for d, roles in domains.items() for r, c in roles.items()]
    shown = [table("Samples", ("domain", "role", "rows", "tokens", "loss tokens"), rows, text=2)]
    dropped = pl.read_parquet(artifact.file("dropped.parquet")).group_by("source", "reason").len().sort("source", "reason")
    if len(dropped):
        title = f"Dropped rows, listed with their reasons in {artifact.kind}/{artifact.key}/dropped.parquet"
        shown.append(table(title, ("source", "reason", "rows"), dropped.rows(), text=2))
    return shown


def _knowledge(artifact: Artifact) -> list[Any]:
    known = artifact.json("knowledge.json")
    wide = known.get("low_with_judge") is not None
    fields = ("domains", "p", "stderr", "low", "high", *(("low_with_judge", "high_with_judge") if wide else ()))
    columns = ("domain", "share", "stderr", "2.5 %", "97.5 %", *(("with judge: 2.5 %", "97.5 %") if wide else ()))
    judged = f"{known['n']:,} judged, {known['rejected']:,} rejected, judge accuracy {number(known['accuracy'])}"
    title = f"Knowledge of the base model ({judged})"
    shown: list[Any] = [table(title, columns, list(zip(*(known[f] for f in fields), strict=True)))]
    if stopped := known.get("stopped"):
        begun = f", each begun with {known['begun_with']}" if known.get("begun_with") else ""
        texts, seconds = known["n"] + known["rejected"], max(artifact.manifest.made["seconds"], 1e-3)
        rate = f"{texts:,} texts in a stage of {seconds:,.1f} s, judging included: {texts / seconds:,.1f} a second"
        shown.append(Text(f"{known['n_tokens']:,} tokens generated{begun}; ended by {stopped}. {rate}."))
    return [*shown, Text(known["note"])] if known.get("note") else shown


def shares_table(title: str, accounts: Sequence[Mapping[str, Any]]) -> Group:
    """Return planned and realised shares, with the counts and shares in all three units."""
    rows = [
        (a["domain"], a["planned_share"], a["realised_share"], *(f"{a[u]:,} ({a[f'{u}_share']:.0%})" for u in COUNTS))
        for a in accounts
    ]
    return table(title, ("domain", "planned", "realised", "rows", "tokens", "loss tokens"), rows)


def _composition(artifact: Artifact) -> list[Group]:
    report = artifact.json("report.json")
    unit = report["unit"].replace("_", " ")
    shown = [shares_table(f"Composition: planned and realised shares of {unit}", report["domains"])]
    if report["shortages"]:
        names = ("phase", "domain", "planned", "available", "moved")
        shown.append(table(f"Shortages ({unit})", names, [tuple(s[n] for n in names) for s in report["shortages"]], text=2))
    return shown


def _model(artifact: Artifact) -> list[Any]:
    import polars as pl

    stats = artifact.manifest.stats
    if "domains" not in stats:  # one that was made from documents
        return []
    rows = [(domain, told["n_loss_tokens"], told["loss_nats"]) for domain, told in stats["domains"].items()]
    title = f"Training: {stats['steps']:,} steps, loss {stats['loss_first']:.3f} to {stats['loss_last']:.3f} nats per token"
    shown: list[Any] = [table(title, ("domain", "loss tokens", "mean loss"), rows)]
    shown += routing_view(artifact)
    if "looks" not in stats:
        return shown
    looks = pl.read_parquet(artifact.file("weights.parquet"))
    ends = [looks.filter(pl.col("step") == step) for step in (looks["step"].min(), looks["step"].max())]
    columns = zip(*(end[of] for of in ("weight", "loss_nats") for end in ends), ends[0]["reference_nats"], strict=True)
    moved = [(domain, *values) for domain, values in zip(ends[0]["domain"], columns, strict=True)]
    names = ("domain", "weight first", "last", "held-out loss first", "last", "reference")
    share = stats["looking_seconds"] / max(artifact.manifest.made["seconds"], 1e-3)
    states = ", ".join(f"{state} {n}" for state, n in looks.group_by("state", maintain_order=True).len().iter_rows())
    shown.append(table(f"Weights that moved, {stats['looks']} looks, {share:.0%} of the time", names, moved))
    dry = ", ".join(f"{each['domain']} after step {each['step']:,}" for each in stats["exhausted"])
    how = artifact.manifest.spec["spec"].get("reference")
    made = "" if how is None else f"{how['epochs']} epochs on {how['rows']} rows of each domain alone"
    of = f" References: {'given by the recipe' if how.get('given') else made}." if how else ""
    return [*shown, Text(f"Looks by domain: {states}.{of}" + (f" Ran dry: {dry}." if dry else ""))]


def _reference(artifact: Artifact) -> list[Any]:
    told = artifact.json("reference.json")
    rows = [
        (domain, each["loss_nats"], each["looks"][0], len(each["looks"]) - 1, each["rows"]) for domain, each in told.items()
    ]
    columns = ("domain", "least held-out loss", "before training", "epochs", "rows")
    return [table("Reference losses, nats per token, of the model trained on each domain alone", columns, rows)]


def _retention(artifact: Artifact) -> list[Any]:
    report = artifact.json("retention.json")
    domains, stages = report["domains"], report["stages"]
    shown: list[Any] = []
    for title, matrix in (("Loss, nats per token", report["loss_nats_per_token"]), ("Exact match", report["exact_match"])):
        if len(domains) > LONG:  # a long sequence reads better by domain
            own = {domain: stages.index(report["forgetting"][domain]["since"]) for domain in domains}
            rows = sorted((own[d], d, matrix[0][i], matrix[own[d]][i], matrix[-1][i]) for i, d in enumerate(domains))
            shown.append(table(title, ("domain", "before", "after its own stage", "at the end"), [row[1:] for row in rows]))
        else:
            cells = [(name, *row) for name, row in zip(stages, matrix, strict=True)]
            shown.append(table(title, ("stage", *domains), cells))
    if len(stages) > 2:  # more than before and after: a sequence
        fields = ("since", "exact_match_rate", "loss_increase_nats")
        lost = [(domain, *(report["forgetting"][domain][field] for field in fields)) for domain in domains]
        columns = ("domain", "since", "% of exact match lost", "loss increase, nats")
        shown.append(table("Forgetting, from the domain's own stage to the end", columns, lost, text=2))
        gains = [(g["stage"], g["percent"], g["n_domains"]) for g in report["relative_gain"] if g["n_domains"]]
        of = "expert" if report["upper"] == "expert" else "own stage"
        shown.append(table("Relative gain of earlier domains", ("stage", f"% of {of}", "domains"), gains))
        shown += _transfer(report)
    return shown


def _transfer(report: Mapping[str, Any]) -> list[Any]:
    rows = [
        (name, report[name.replace(" ", "_")]["exact_match"], report[name.replace(" ", "_")]["loss_nats"])
        for name in ("backward transfer", "forward transfer")
    ]
    experts = list(report["experts"].items())
    shown = [table("What experts reach, exact match", ("domain", "expert"), experts)] if experts else []
    return [*shown, table("Transfer, mean change over the domains", ("", "exact match", "loss, nats"), rows)]


def _mixture(artifact: Artifact) -> list[Group]:
    mixture = artifact.json("mixture.json")
    rows = list(zip(mixture["domains"], mixture["weights"], strict=True))
    return [table(f"Weights by the law {mixture['law']}, shares of {mixture['unit']}", ("domain", "weight"), rows)]


def _schedule(artifact: Artifact) -> list[Any]:
    rows = []
    for phase in artifact.json("schedule.json")["phases"]:
        weights = zip(phase["mixture"]["domains"], phase["mixture"]["weights"], strict=True)
        replayed = sum(weight for domain, weight in weights if domain not in phase["current"])
        rows.append((phase["name"], phase["amount"], round(replayed * phase["amount"]), replayed))
    shown: list[Any] = [table("Phases", ("phase", "amount", "of it replay", "share"), rows)]
    if off := artifact.manifest.stats.get("share_error"):
        shown.append(Text(f"The distances are estimates: shares of the replay may be off by {off:.4f} in total variation."))
    return shown


VIEWS: dict[str, Callable[[Artifact], Sequence[Any]]] = {
    "samples": _samples,
    "knowledge": _knowledge,
    **INSTRUCTION_VIEWS,
    "mixture": _mixture,
    "schedule": _schedule,
    "composition": _composition,
    "reference": _reference,
    "mask": mask_view,
    "model": _model,
    "retention": _retention,
    "trial": trial_view,
    "prediction": prediction_view,
}


def show_list(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the list of artifacts."""
    from datetime import datetime

    cells = [
        (r["kind"], r["key"], datetime.fromtimestamp(r["made"]).strftime("%Y-%m-%d %H:%M"), r["seconds"], r["bytes"])
        for r in rows
    ]
    out.print(table("Artifacts", ("kind", "key", "made", "seconds", "bytes"), cells, text=3))


def show_why(document: Mapping[str, Any]) -> None:
    """Print why a key differs."""
    if document["before"] is None:
        return out.print(f"{document['artifact']} is the first of its kind.", markup=False)
    if not document["changes"]:
        return out.print(
            f"{document['artifact']} and {document['before']} differ in nothing that bears identity.", markup=False
        )
    rows = [(c["field"], c["before"], c["after"]) for c in document["changes"]]
    return out.print(table(f"{document['artifact']} against {document['before']}", ("field", "before", "now"), rows, text=3))


def show_verify(document: Mapping[str, Any]) -> None:
    """Print what a check of the store found."""
    for each in document["damaged"]:
        out.print(f"damaged: {each['artifact']}: {', '.join(each['damaged'])}", markup=False)
    for each in document["drift"]:
        other = ", ".join(name for name, digest in each["other"].items() if each["kept"].get(name) != digest)
        out.print(f"drifted: {each['kind']}/{each['key']}: {other} came out otherwise when built again", markup=False)
    out.print(f"{document['checked']} artifacts checked, {len(document['damaged'])} damaged, {len(document['drift'])} drifted.")
