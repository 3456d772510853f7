"""Who reads what: where LoRAMoE's tokens went in training, and whom a Mixture-of-LoRAs asks on held-out rows."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from composer import tables
from composer.artifact import Artifact
from composer.report.draw import heat
from composer.report.numbers import count, share
from composer.report.record import Record
from composer.report.section import Chapter, Figure, Panel, Part, Table, Words

LOADS, ROUTES = "routing.parquet", "routes.parquet"


def panel(run: Record, runs: Sequence[Record]) -> Panel | None:
    """Return the loads and the choices of one run's last model."""
    loaded = [each for each in run.models if LOADS in each.manifest.files]
    routed = [each for each in run.evaluations if ROUTES in each.manifest.files]
    parts: list[Part] = [*(_loads(run, loaded, runs) if loaded else ()), *(_choices(run, routed[-1]) if routed else ())]
    return Panel(parts, [*loaded, *routed]) if parts else None


def _means(model: Artifact) -> pl.DataFrame:
    """Return of each domain and expert the mean share of the tokens over the maps, and the least and the greatest of one."""
    of = pl.col("share")
    found = tables.read(model.file(LOADS), tables.ROUTING)
    return found.group_by("domain", "expert", "type", maintain_order=True).agg(
        of.mean(), least=of.min(), most=of.max(), maps=pl.len(), n_tokens=pl.col("n_tokens").first().cast(pl.Int64)
    )


def _loads(run: Record, models: Sequence[Artifact], runs: Sequence[Record]) -> list[Part]:
    model, means = models[-1], _means(models[-1])
    experts = means.select("expert", "type").unique(maintain_order=True).rows()
    value = {(domain, expert): mean for domain, expert, mean in means.select("domain", "expert", "share").iter_rows()}
    domains = run.in_order(means["domain"])
    known = set(model.manifest.spec["spec"]["adapter"].get("knowledge", ()))
    meant = frozenset(
        (i, j) for i, domain in enumerate(domains) for j, (_, kind) in enumerate(experts)
        if known and kind == ("knowledge" if domain in known else "task")
    )  # fmt: skip
    even = 1 / len(experts)
    farthest = max(value, key=lambda at: abs(value[at] - even))
    told = (
        f"{farthest[0]} is farthest from an even share, with {share(value[farthest])} for expert {farthest[1]}; "
        f"even is {share(even)}"
    )
    plot = heat(
        domains, [f"{expert} {kind}" for expert, kind in experts],
        [[100 * value[domain, expert] for expert, _ in experts] for domain in domains],
        says=f"{len(domains)} domains by {len(experts)} experts; {told}.", outlined=meant, digits=1, reach=(0.0, _most(runs)),
    )  # fmt: skip
    title = "LoRAMoE: percent of a domain's tokens that each expert read in training, mean over the maps"
    title += f"; phase {run.phase_of(model)}" if len(run.models) > 1 else ""
    note = f"Each row sums to 100; {told}." + (" A border where the type is meant for the domain." if meant else "")
    columns = ("phase", "domain", "expert", "type", "share", "least of a map", "greatest of a map", "maps", "tokens")
    rows = [(run.phase_of(each), *row) for each in models for row in _means(each).rows()]
    return [Figure(title, plot, Table(columns, rows), note=note), *_by_type(means, known)]


def _most(runs: Sequence[Record]) -> float:
    models = [model for run in runs for model in run.models[-1:] if LOADS in model.manifest.files]
    return max((100 * float(each) for model in models for each in _means(model)["share"]), default=100.0)


def _by_type(means: pl.DataFrame, known: set[str]) -> list[Part]:
    """Say how much of both kinds of domains went to the experts of knowledge."""
    kinds = means.select("expert", "type").unique()
    even = (kinds["type"] == "knowledge").mean()
    if not known or not even:
        return []
    taken = means.filter(pl.col("type") == "knowledge").group_by("domain").agg(pl.col("share").sum())
    own, other = (taken.filter(pl.col("domain").is_in(known) == inside)["share"].mean() for inside in (True, False))
    pairs = ((own, "of the tokens of knowledge domains"), (other, "of those of the others"))
    said = " and ".join(f"{share(float(v))} {of}" for v, of in pairs if v is not None)  # type: ignore[arg-type]
    return [Words(f"Experts of knowledge read {said}; even would be {share(float(even))}.")]  # type: ignore[arg-type]


def _choices(run: Record, evaluation: Artifact) -> list[Part]:
    found = tables.read(evaluation.file(ROUTES), tables.ROUTES)
    domains, experts = run.in_order(found["domain"]), run.in_order(found["expert"])
    value = {(domain, expert): part for domain, expert, part in found.select("domain", "expert", "share").iter_rows()}
    right = [value[domain, domain] for domain in domains if (domain, domain) in value]
    own = frozenset((i, experts.index(domain)) for i, domain in enumerate(domains) if domain in experts)
    n = int(found.group_by("domain").agg(pl.col("prompts").first())["prompts"].cast(pl.Int64).sum())
    told = (
        f" {share(sum(right) / len(right))} of a domain's prompts go to its own LoRA, averaged over the domains."
        if right
        else ""
    )
    plot = heat(
        domains, experts, [[value.get((domain, expert)) for expert in experts] for domain in domains],
        says=f"{len(domains)} domains by {len(experts)} LoRAs.{told}", outlined=own, reach=(0.0, 1.0),
    )  # fmt: skip
    rows = found.with_columns(pl.col("prompts").cast(pl.Int64)).rows()
    table = Table(("domain", "expert", "prompts", "share", "mean probability"), rows)
    title = f"Mixture-of-LoRAs: share of {count(n)} held-out prompts that the routers send to each LoRA"
    return [Figure(title, plot, table, note=f"A border where the LoRA is the domain's own.{told}")]


CHAPTER = Chapter(
    "experts", "Experts",
    "Which experts read the tokens of every domain, and whom the routers choose.", panel,
)  # fmt: skip
