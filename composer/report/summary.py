"""The page's first words: what was mixed of what, how much of it, and what came of it."""

from __future__ import annotations

import numpy as np

from composer.report.numbers import brief, count, duration, listed, share
from composer.report.record import Record

LINE = 120  # characters of names that a sentence bears


def tiles(run: Record) -> list[tuple[str, str]]:
    """Return the headline numbers, each with what it counts."""
    out = [("domains", str(len(run.domains)))] if run.domains else []
    if run.report:
        total = run.report["total"]
        out += [("rows", brief(total["rows"])), ("loss tokens", brief(total["loss_tokens"]))]
    if replayed := replay_share(run):
        out.append(("replay", share(replayed)))
    if gain := _gain(run):
        out.append(gain)
    return [*out, ("time of all steps", duration(seconds(run)))]


def seconds(run: Record) -> float:
    """Return what all members took."""
    return float(sum(each.manifest.made["seconds"] for each in run.members))


def replay_share(run: Record) -> float | None:
    """Return which share of what is trained on comes back from earlier domains; None without a composition."""
    if run.composition is None or not len(run.composition):
        return None
    size = {"tokens": "n_tokens", "loss tokens": "n_loss_tokens"}.get(run.unit)
    if size is None:
        return float(run.composition["is_replay"].to_numpy().mean())
    weight, replay = run.composition[size].to_numpy().astype(np.float64), run.composition["is_replay"].to_numpy()
    return float(weight[replay].sum() / max(weight.sum(), 1e-12))


def means(run: Record, name: str) -> tuple[float, float] | None:
    """Return the mean over the domains of a measure at the first and at the last stage."""
    if not run.retention:
        return None
    ends = [[v for v in run.retention[name][k] if v is not None] for k in (0, -1)]
    return (sum(ends[0]) / len(ends[0]), sum(ends[1]) / len(ends[1])) if all(ends) else None


def _gain(run: Record) -> tuple[str, str] | None:
    exact, loss = means(run, "exact_match"), means(run, "loss_nats_per_token")
    if exact and any(exact):
        return "mean exact match", f"{exact[0]:.2f} → {exact[1]:.2f}"
    return ("mean held-out loss", f"{loss[0]:.2f} → {loss[1]:.2f}") if loss else None


def sentences(run: Record) -> list[str]:
    """Return what happened, in a few sentences."""
    gone = [f"{run.missing} of its artifacts are no longer in the store, so they are not on this page."] if run.missing else []
    return [*_mixed(run), *_trained(run), *_read(run), *gone]


def _mixed(run: Record) -> list[str]:
    mixture, sources = run.json("mixture", "mixture.json"), run.every("source")
    if not mixture:
        return []
    most = 8 if sum(map(len, run.domains)) < LINE else 3
    of = f"{listed(list(run.domains), most=most)}, from {count(len(sources))} sources, by the law {mixture['law']}"
    if not run.report:
        return [f"It weighs {of}."]
    total = run.report["total"]
    out = [
        f"It mixes {of}: {count(total['rows'])} rows with {count(total['tokens'])} tokens, "
        f"of which {count(total['loss_tokens'])} are trained on."
    ]
    schedule = run.last("schedule")
    if schedule and len(run.phases) > 1:
        policy = schedule.manifest.stats["policy"]
        out.append(
            f"They come in {len(run.phases)} phases; the replay policy {policy} brings back "
            f"{share(replay_share(run))} of it from earlier domains."
        )
    return out


def _trained(run: Record) -> list[str]:
    exact, loss = means(run, "exact_match"), means(run, "loss_nats_per_token")
    if exact is None or loss is None:
        return []
    told = f"Over training the held-out loss went from {loss[0]:.3f} to {loss[1]:.3f} nats per token, averaged over the domains"
    told += f", and exact match from {exact[0]:.3f} to {exact[1]:.3f}." if any(exact) else "."
    lost = run.retention["forgetting"]
    worst = max(((each["exact_match_rate"] or 0.0, domain) for domain, each in lost.items()), default=(0.0, ""))
    return [
        told,
        *(
            [f"Most was forgotten of {worst[1]}: {worst[0]:.0f} % of the exact match it had after its own stage."]
            if worst[0] > 0
            else []
        ),
    ]


def _read(run: Record) -> list[str]:
    sources, samples = run.every("source"), run.last("samples")
    if not sources:
        return []
    seen = sum(each.manifest.stats["seen"] for each in sources)
    kept = f", {count(samples.manifest.stats['samples'])} of which are in the pool" if samples else ""
    return [f"{count(seen)} rows were read{kept}. All steps together took {duration(seconds(run))}."]
