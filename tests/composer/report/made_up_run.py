"""A store with a run of made-up numbers: every kind of artifact that the page reads, of as many domains as wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from composer import tables
from composer.artifact import Artifact, Store
from composer.fingerprint import write_json

ATTACKS = (
    "<script>document.title='broken'</script>", '"><img src=x onerror="document.title=1">', "</style><h1>out</h1>",
    "[a](javascript:alert(1)) **bold** `code` | cell |", "{{ 7 * 7 }} {% raw %} &amp; ]]> --> \u202e\x00",
)  # fmt: skip
FRAMES: Mapping[str, tables.Schema] = {
    "samples": tables.SAMPLE, "dropped": tables.DROPPED, "instructions": tables.INSTRUCTION, "scores": tables.INSTRUCTION_SCORE,
    "clusters": tables.CLUSTERS, "composition": tables.COMPOSITION, "trace": tables.TRACE, "weights": tables.WEIGHTS,
    "evaluation": tables.EVALUATION, "routing": tables.ROUTING, "routes": tables.ROUTES,
}  # fmt: skip
ROWS = 6  # training rows of a domain; as many more are held out
LICENSES = ("CC-BY-4.0", "MIT", "")


def long_names(n: int) -> tuple[str, ...]:
    """Return names as long as those of a big collection of tasks."""
    themes = ("question_answering", "scientific_summarization", "intent_classification", "paraphrase_identification", "math")
    return tuple(f"{themes[i % len(themes)]}_from_{'very_' * (i % 3)}long_source_{i + 1}" for i in range(n))


class Maker:
    """Makes the artifacts of one run in a store, all numbers from one seed."""

    def __init__(self, store: Store, domains: Sequence[str], *, seed: int, phases: int) -> None:
        self.store, self.domains = store, tuple(domains)
        self.rng = np.random.default_rng(seed)
        self.seed = seed
        size = -(-len(domains) // phases)
        self.groups = [self.domains[i : i + size] for i in range(0, len(domains), size)]
        self.members: list[Artifact] = []

    def make(
        self, kind: str, *, inputs: Mapping[str, Any] | None = None, spec: Mapping[str, Any] | None = None,
        stats: Mapping[str, Any] | None = None, frames: Mapping[str, pl.DataFrame] | None = None, **files: Any,
    ) -> Artifact:  # fmt: skip
        """Make one artifact of JSON files and tables."""

        def build(folder: Path) -> Mapping[str, Any]:
            for name, content in files.items():
                write_json(folder / f"{name}.json", content)
            for name, frame in (frames or {}).items():
                tables.write(frame, folder / f"{name}.parquet", FRAMES[name])
            return stats or {}

        given = {"seed": self.seed, "n": len(self.members), **(spec or {})}
        made = self.store.make(kind, version=1, spec=given, inputs=inputs or {}, build=build)
        self.members.append(made)
        return made

    def whole(self, name: str) -> Artifact:
        """Make everything and the run that gathers it."""
        self.pool()
        self.measured()
        self.mixed()
        self.trained()
        artifacts = [{"kind": each.kind, "key": each.key} for each in self.members]
        return self.make(
            "run", inputs={"inputs": [each.key for each in self.members]}, run={"name": name, "artifacts": artifacts}
        )

    def pool(self) -> Artifact:
        """Make a source per domain and the pool; some texts are attacks."""
        rows, texts = [], []
        for d, domain in enumerate(self.domains):
            for i in range(2 * ROWS):
                text = f"Tell me number {i} of {domain}. {ATTACKS[i % len(ATTACKS)]}"
                messages = [
                    {"role": "user", "content": text},
                    {"role": "assistant", "content": f"It is {i + d} {ATTACKS[d % len(ATTACKS)]}"},
                ]
                role = "target" if i < ROWS else "validation"
                rows.append((f"{d:03d}-{i:03d}", f"source {domain}", domain, role, f"i{d:03d}{i:03d}", messages, 30 + i, 8 + i,
                             LICENSES[d % 3], "r", None))  # fmt: skip
                texts.append((f"i{d:03d}{i:03d}", text))
        self.samples = pl.DataFrame(rows, schema=dict(tables.SAMPLE), orient="row")
        instructions = pl.DataFrame(texts, schema=dict(tables.INSTRUCTION), orient="row")
        dropped = pl.DataFrame(
            [
                (f"source {self.domains[0]}", i, reason, ATTACKS[i % len(ATTACKS)])
                for i, reason in enumerate(("empty", "too_long", "copy") * 3)
            ],
            schema=dict(tables.DROPPED), orient="row",
        )  # fmt: skip
        counts = {
            "seen": 2 * ROWS + 1,
            "kept": 2 * ROWS,
            "samples": 2 * ROWS,
            "repaired": 1,
            "truncated": 2,
            "dropped": {"empty": 1},
        }
        for domain in self.domains:
            source = {"name": f"source {domain}", "domain": domain, "role": "target", "license": ""}
            own = dropped.filter(pl.col("source") == source["name"])
            self.make("source", spec={"source": source, "content": "c0ffee" * 8}, stats=counts, frames={"dropped": own})
        return self.make(
            "samples",
            stats={"samples": len(rows)},
            frames={"samples": self.samples, "dropped": dropped, "instructions": instructions},
        )

    def measured(self) -> None:
        """Make what is measured: knowledge, distances, clusters, coverage, InsInfo."""
        n, rng = len(self.domains), self.rng
        p = rng.dirichlet(np.ones(n) * 3)
        self.p = p
        self.make(
            "knowledge", knowledge={
                "domains": self.domains, "p": p.tolist(), "stderr": (p / 10).tolist(),
                "low": (p * 0.8).tolist(), "high": (p * 1.2).tolist(),
                "n": 1000, "rejected": 3, "accuracy": 0.94, "note": "Made up.", "probe": "self_generation", "n_tokens": 90_000,
            },
        )  # fmt: skip
        places = rng.normal(size=(n, 3))
        value = np.linalg.norm(places[:, None] - places[None], axis=2)
        self.make(
            "similarity",
            similarity={"domains": self.domains, "value": value.tolist(), "kind": "distance", "measure": "wasserstein"},
        )
        ids = self.samples["instruction_id"]
        near = rng.normal(size=(len(ids), 2)) + rng.normal(size=(8, 2))[rng.integers(0, 8, len(ids))] * 4
        label = rng.integers(-1, 8, len(ids))
        clusters = pl.DataFrame(
            {"instruction_id": ids, "cluster": label, "x": near[:, 0], "y": near[:, 1]}, schema=dict(tables.CLUSTERS)
        )
        told = [{"cluster": i, "name": f"about {ATTACKS[i % 4]}", "instructions": 9 - i, "rows": 20 - i} for i in range(8)]
        self.make("clusters", clusters={"clusters": told, "noise": int((label < 0).sum())}, frames={"clusters": clusters})
        phases = [{d: float(rng.random()) for g in self.groups[:k] for d in g} for k in range(len(self.groups))]
        uncovered = self._scores(ids, 1, "uncovered", rng.random(len(ids)))
        risk = {"measure": "uncovered", "near": 0.5, "phases": phases, "alone": phases}
        self.make("coverage", risk=risk, frames={"scores": uncovered})
        said = self._scores(ids, 0, "insinfo", rng.gamma(5, 4, len(ids)))
        ends = {end: [{"text": text, "value": 1.5} for text in ATTACKS] for end in ("most", "least")}
        self.make("scores", ranking=ends, frames={"scores": said})

    def _scores(self, ids: pl.Series, phase: int, name: str, values: np.ndarray) -> pl.DataFrame:
        same = {"instruction_id": ids, "phase": [phase] * len(ids), "score": [name] * len(ids), "value": values}
        return pl.DataFrame(same, schema=dict(tables.INSTRUCTION_SCORE))

    def mixed(self) -> Artifact:
        """Make the mixture, the schedule with replay of all earlier domains, and the composition."""
        weights = [1 / len(self.domains)] * len(self.domains)
        mixture = {"domains": self.domains, "weights": weights, "unit": "loss_tokens", "law": "uniform"}
        self.make("mixture", mixture=mixture)
        target = self.samples.with_row_index("row").filter(pl.col("role") == "target")
        phases, parts = [], []
        for k, group in enumerate(self.groups):
            earlier = [d for g in self.groups[:k] for d in g]
            own = target.filter(pl.col("domain").is_in(group)).with_columns(phase=pl.lit(k), is_replay=pl.lit(False))
            back = target.filter(pl.col("domain").is_in(earlier) & pl.col("sample_id").str.ends_with("-000"))
            rows = pl.concat([own, back.with_columns(phase=pl.lit(k), is_replay=pl.lit(True))]).sample(
                fraction=1, shuffle=True, seed=self.seed + k
            )
            parts.append(rows)
            shares = dict(rows.group_by("domain").agg(pl.col("n_loss_tokens").cast(pl.Int64).sum()).iter_rows())
            total, names = sum(shares.values()), [*group, *earlier]
            drawn = {"domains": names, "weights": [shares[d] / total for d in names], "unit": "loss_tokens", "law": "uniform"}
            phases.append({"name": "+".join(group)[:60], "amount": total, "mixture": drawn, "current": list(group)})
        self.make("schedule", schedule={"phases": phases}, stats={"policy": "random", "unit": "loss_tokens"})
        rows = pl.concat(parts).with_row_index("position")
        frame = (
            rows.with_columns(rank=pl.lit(0), repeat=pl.lit(0)).cast(dict(tables.COMPOSITION)).select(list(tables.COMPOSITION))
        )
        self.rows = frame
        return self.make(
            "composition", report=self._report(frame, weights), frames={"composition": frame}, stats={"rows": len(frame)}
        )

    def _report(self, frame: pl.DataFrame, weights: Sequence[float]) -> dict[str, Any]:
        sums = frame.group_by("domain").agg(
            rows=pl.len(),
            tokens=pl.col("n_tokens").cast(pl.Int64).sum(),
            loss_tokens=pl.col("n_loss_tokens").cast(pl.Int64).sum(),
        )
        of = {row["domain"]: row for row in sums.iter_rows(named=True)}
        total = {name: int(sums[name].sum()) for name in ("rows", "tokens", "loss_tokens")}
        domains = [
            {**of[d], **{f"{name}_share": of[d][name] / total[name] for name in total},
             "planned_share": w, "realised_share": of[d]["loss_tokens"] / total["loss_tokens"]}
            for d, w in zip(self.domains, weights, strict=True)
        ]  # fmt: skip
        short = [{"phase": "1", "domain": self.domains[0], "planned": 90, "available": 60, "moved": 30}]
        return {"unit": "loss_tokens", "domains": domains, "total": total, "shortages": short, "phases": []}

    def trained(self) -> None:
        """Make a model per phase with its trace and moving weights, the measurements between them, and the retention."""
        evaluations = [self._evaluation(0, None)]
        looks = {domain: {"loss_nats": 2.0, "looks": [5.0, 2.0], "rows": ROWS} for domain in self.domains}
        self.make("reference", reference=looks)
        for k in range(len(self.groups)):
            names = [d for g in self.groups[: k + 1] for d in g]
            steps = np.repeat(np.arange(12), len(names))
            of = names * 12
            loss = 3 - 0.1 * steps + 0.05 * self.rng.normal(size=len(of))
            same = {"step": steps, "position": steps * 8, "domain": of, "weight": [1 / len(names)] * len(of), "loss_nats": loss}
            trace = pl.DataFrame({**same, "n_tokens": [50] * len(of)}, schema=dict(tables.TRACE))
            more = {"n_loss_tokens": 9, "reference_nats": 2.0, "state": "updated", "told": []}
            moved = {**same, **{column: [each] * len(of) for column, each in more.items()}}
            weights = pl.DataFrame(moved, schema=dict(tables.WEIGHTS))
            adapter = {"name": "loramoe", "knowledge": names[:1]}
            spec = {"adapter": adapter, "learning_rate": 1e-3, "batch_size": 8}
            self._mask(k)
            stats = {"steps": 12, "samples": 96, "loss_first": 3.0, "loss_last": 2.0, "n_tokens": 5000}
            model = self.make(
                "model",
                spec={"phase": k, "spec": spec},
                stats=stats,
                frames={"trace": trace, "weights": weights, "routing": self._routing(names)},
            )
            evaluations.append(self._evaluation(k + 1, model))
        names = ["before", *(f"phase {k + 1}" for k in range(len(self.groups)))]
        self.make(
            "retention",
            inputs={"evaluations": [each.key for each in evaluations]},
            retention=self._retention(names, evaluations),
        )

    def _routing(self, domains: Sequence[str]) -> pl.DataFrame:
        """Four experts in two maps, of which the first has most."""
        kinds, shares = ("knowledge", "knowledge", "task", "task"), (0.4, 0.1, 0.3, 0.2)
        rows = [
            (path, domain, i, kind, part, 50)
            for path in ("up", "down") for domain in domains for i, (kind, part) in enumerate(zip(kinds, shares, strict=True))
        ]  # fmt: skip
        return pl.DataFrame(rows, schema=dict(tables.ROUTING), orient="row")

    def _routes(self, experts: Sequence[str]) -> pl.DataFrame:
        """The routers find the LoRA of three prompts of four, and ask the first one else."""
        rows = [
            (domain, expert, ROWS, 0.75 * (expert == domain) + 0.25 * (expert == experts[0]), 0.5)
            for domain in self.domains for expert in experts
        ]  # fmt: skip
        return pl.DataFrame(rows, schema=dict(tables.ROUTES), orient="row")

    def _mask(self, phase: int) -> None:
        kinds = {"mlp.up_proj": (2, 800, 60), "self_attn.q_proj": (2, 200, 40)}
        own = {
            kind: {"matrices": m, "entries": n, "kept": kept, "density": kept / n, "earlier": phase * kept}
            for kind, (m, n, kept) in kinds.items()
        }
        mask = {
            "steps": 4, "rows": 32, "wanted": 120, "kept": 100, "entries": 1000, "density": 0.1, "scope": "global",
            "earlier": 100 * phase, "overlap": 0.0, "kinds": own,
        }  # fmt: skip
        self.make("mask", spec={"phase": phase}, mask=mask)

    def _evaluation(self, stage: int, model: Artifact | None) -> Artifact:
        """Every domain is right on all rows in its own stage, on half of them one stage later, on none before."""
        held = self.samples.filter(pl.col("role") == "validation")
        own = {d: k + 1 for k, group in enumerate(self.groups) for d in group}
        exact = [
            own[d] == stage or (own[d] < stage and int(s[-1]) % 2 == 0)
            for d, s in held.select("domain", "sample_id").iter_rows()
        ]
        loss = [1.0 if right else 20.0 for right in exact]
        frame = held.select("domain", "sample_id").with_columns(
            loss_nats=pl.Series(loss), n_loss_tokens=pl.lit(8, dtype=pl.UInt32), exact=pl.Series(exact)
        )  # fmt: skip
        summary = {
            d: {"exact_match": part["exact"].mean(), "loss_nats_per_token": part["loss_nats"].sum() / (8 * len(part)),
                "exact_stderr": 0.05, "stderr": 0.1}
            for (d,), part in frame.group_by("domain", maintain_order=True)
        }  # fmt: skip
        known = [d for group in self.groups[:stage] for d in group]
        frames = {"evaluation": frame, **({"routes": self._routes(known)} if known else {})}
        return self.make("evaluation", inputs={"trained": model.key} if model else {}, evaluation=summary, frames=frames)

    def _retention(self, names: Sequence[str], evaluations: Sequence[Artifact]) -> dict[str, Any]:
        found = [each.json("evaluation.json") for each in evaluations]
        lost = {d: {"since": names[1], "exact_match_rate": 50.0, "loss_increase_nats": 0.5} for d in self.domains}
        return {
            "stages": names, "current": [[], *(list(g) for g in self.groups)], "domains": self.domains, "forgetting": lost,
            "exact_match": [[each[d]["exact_match"] for d in self.domains] for each in found],
            "loss_nats_per_token": [[each[d]["loss_nats_per_token"] for d in self.domains] for each in found],
            "upper": "own stage",
            "mean_relative_gain": {"percent": 70.0}, "backward_transfer": {"exact_match": -0.3},
        }  # fmt: skip


def made_up_run(store: Store, domains: Sequence[str], *, name: str, seed: int = 1, phases: int = 3) -> Artifact:
    """Return a run of made-up numbers over the domains, learned in so many phases."""
    return Maker(store, domains, seed=seed, phases=phases).whole(name)
