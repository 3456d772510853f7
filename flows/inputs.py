"""What stages read of a pool of samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from composer import tables
from composer.artifact import Artifact
from composer.errors import SourceError
from composer.types import Unit

_LIGHT = ("sample_id", "source", "domain", "role", "instruction_id", "n_tokens", "n_loss_tokens")


def samples_of(artifact: Artifact, *roles: str) -> pl.DataFrame:
    """Return the samples of an artifact that play one of the roles."""
    frame = tables.read(artifact.file("samples.parquet"), tables.SAMPLE)
    return frame.filter(pl.col("role").is_in(roles)) if roles else frame


def light_samples_of(artifact: Artifact, *roles: str) -> pl.DataFrame:
    """Return the samples that play one of the roles, each with its place in the table as ``row``: what is needed to choose."""
    path = artifact.file("samples.parquet")
    tables.check(pl.DataFrame(schema=pl.read_parquet_schema(path)), tables.SAMPLE, where=str(path))
    light = pl.scan_parquet(path).select(_LIGHT).with_row_index("row")
    return light.filter(pl.col("role").is_in(roles)).collect()


def instructions_of(samples: Artifact) -> pl.DataFrame:
    """Return the unique instructions of target and replay rows, in a fixed order."""
    wanted = light_samples_of(samples, "target", "replay").select("instruction_id").unique()
    texts = tables.read(samples.file("instructions.parquet"), tables.INSTRUCTION)
    return texts.join(wanted, on="instruction_id", how="semi").sort("instruction_id")


def references_of(samples: Artifact) -> tuple[pl.DataFrame, str]:
    """Return the texts that show what a domain is, as columns domain and text, and the role of the rows they come from."""
    role = "reference" if len(samples_of(samples, "reference")) else "target"
    return samples_of(samples, role).select("domain", text=as_text("messages")), role


def as_text(column: str) -> pl.Expr:
    """Return the messages of a column as one text, one below the other."""
    return pl.col(column).list.eval(pl.element().struct.field("content")).list.join("\n")


def held_out(samples: Artifact, *, most: int | None, domains: Sequence[str] | None = None) -> pl.DataFrame:
    """Return the rows that are only measured, at most so many of each domain, or of each of these domains.

    Raises
    ------
    SourceError
        Where there are none.
    """
    rows = samples_of(samples, "validation").sort("domain", "sample_id")
    rows = rows if domains is None else rows.filter(pl.col("domain").is_in(domains))
    if rows.is_empty():
        raise SourceError("no rows to measure on", where="evaluate", hint="set holdout, or add sources of role validation")
    return rows.group_by("domain", maintain_order=True).head(most) if most else rows


def supply(samples: Artifact, domains: Sequence[str], unit: Unit) -> tuple[int, ...]:
    """Return what every domain's target and replay rows can give once, in the unit."""
    known = samples.manifest.stats["domains"]
    return tuple(sum(known.get(domain, {}).get(role, {}).get(unit, 0) for role in ("target", "replay")) for domain in domains)


def forgetting(
    evaluations: Sequence[Mapping[str, Any]], groups: Sequence[tuple[str, ...]], earlier: tuple[str, ...]
) -> list[dict[str, float]]:
    """Return for every phase that can be planned by how many nats per token its earlier domains' losses have risen.

    ``evaluations`` are those before training and after each phase so far: the first is the reference of the ``earlier``
    domains, evaluation i + 1 that of group i.
    """
    own = dict.fromkeys(earlier, 0)
    out = []
    for phase, found in enumerate(evaluations):
        loss = "loss_nats_per_token"
        out.append({d: found[d][loss] - evaluations[at][d][loss] for d, at in own.items() if d in found})
        own |= dict.fromkeys(groups[phase] if phase < len(groups) else (), phase + 1)
    return out
