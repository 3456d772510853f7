"""What the stages cost that work on rows and instructions, with processors alone or a sentence model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import comb

from composer.errors import SpecError
from flows.plan import Step
from flows.scale.scenario import TERA
from flows.scale.world import Cost, World

ALONE = "one process"
LONGEST = 256  # tokens after which sentence models cut a text, as most do
REPEATS, FEWER = 2, 1.2  # of the benchmark's subsamples, and what half the points cost beside them


def ingest(step: Step, world: World) -> Cost:
    """Rows are read by one process a source; their tokens are counted on the workers."""
    data, workers = world.scenario.data, world.workers
    rows = world.of_source(step.values["source"].name)
    text = rows * data.bytes_per_row
    seconds = world.core("ingest.read", text) + world.core("ingest.count", text) / workers
    where = ALONE if workers == 1 else f"one process, tokens on {workers} workers"
    formula = f"bytes * (ingest.read + ingest.count / {workers})"
    return Cost(
        where, rows, "rows", seconds, formula, disk=text * world.rates["ingest.disk"],
        memory=world.memory("ingest.memory", rows), nodes=world.nodes_of(workers), alone=workers == 1,
    )  # fmt: skip


def pool(step: Step, world: World) -> Cost:  # noqa: ARG001
    """The sources become one table."""
    seconds, disk = world.core("pool.seconds", world.text), world.text * world.rates["pool.disk"]
    return Cost(
        ALONE,
        world.rows,
        "rows",
        seconds,
        "bytes * pool.seconds",
        disk=disk,
        memory=world.memory("pool.memory", world.rows),
        alone=True,
    )


def embed(step: Step, world: World) -> Cost:
    """Every distinct instruction becomes a vector."""
    data = world.scenario.data
    return _embedded(step, world, data.instructions, world.instructions, data.tokens_per_instruction, "instructions")


def embed_rows(step: Step, world: World) -> Cost:
    """Every row becomes a vector."""
    data = world.scenario.data
    return _embedded(step, world, world.offered, world.offered * data.bytes_per_row, data.tokens_per_row, "rows")


def _embedded(step: Step, world: World, n: float, text: float, tokens: float, unit: str) -> Cost:
    embedder = step.values["embedder"]
    if embedder.fitted:
        seconds, memory = world.core("embed.lexical", text), world.memory("embed.lexical.memory", text)
        return Cost(
            ALONE, n, unit, seconds, "bytes * embed.lexical", disk=n * (4 * embedder.dims + 16), memory=memory, alone=True
        )
    encoder, cluster, workers = world.scenario.encoder, world.scenario.cluster, world.workers
    if encoder is None:
        raise SpecError("no sentence model", where="encoder", hint="state its parameters and dims in the scenario")
    rate = encoder.parameters * 2 * min(tokens, LONGEST)  # FLOP of a text
    if getattr(world.recipe.runner, "gpus", 0) and cluster.gpu is not None:
        workers = min(workers, cluster.nodes * cluster.gpus)
        seconds, each = n * rate / (workers * cluster.gpu.tflops * TERA * world.rates["embed.mfu"]), "GPUs"
        formula = f"2 * parameters * tokens / ({workers} * peak * embed.mfu)"
    else:
        seconds, each = world.core("embed.flop", n * rate) / workers, "workers"
        formula = f"2 * parameters * tokens * embed.flop / {workers}"
    memory = world.memory() + n * (world.rates["embed.copies"] * 4 * encoder.dims + world.rates["object.memory"]) + 2 * text
    where = f"{workers} {each}, joined by one process" if workers > 1 else ALONE
    return Cost(
        where,
        n,
        unit,
        seconds,
        formula,
        disk=2 * n * 4 * encoder.dims,
        memory=memory,
        nodes=world.nodes_of(workers),
        alone=workers == 1,
    )


def answers(step: Step, world: World) -> Cost:  # noqa: ARG001
    """Equal answers get equal numbers."""
    rows = world.offered
    return Cost(
        ALONE, rows, "rows", world.core("answers.seconds", rows), "rows * answers.seconds",
        disk=rows * world.rates["answers.disk"], memory=world.memory("answers.memory", rows), alone=True,
    )  # fmt: skip


def tag(step: Step, world: World) -> Cost:
    """Every distinct instruction gets its tags."""
    n, text = world.scenario.data.instructions, world.instructions
    if step.values["tagger"].name != "keyphrase":
        return unknown(step, world)
    return Cost(
        ALONE, n, "instructions", world.core("tag.seconds", text), "bytes * tag.seconds",
        disk=n * world.rates["tag.disk"], memory=world.memory("tag.memory", text), alone=True,
    )  # fmt: skip


def score(step: Step, world: World) -> Cost:
    """Every phase scores its instructions among those of the phases before."""
    phases = len(step.values["groups"])
    n = world.scenario.data.instructions * (phases + 1) / 2
    return Cost(
        ALONE, n, "scores", world.core("score.seconds", n), "instructions * (phases + 1) / 2 * score.seconds",
        disk=n * world.rates["score.disk"], memory=world.memory("score.memory", world.scenario.data.instructions), alone=True,
    )  # fmt: skip


def compare(step: Step, world: World) -> Cost:
    """Every pair of domains is compared: whole clouds, whose costs are a square, or subsamples of them."""
    distance, n_domains, data = step.values["distance"], len(step.values["domains"]), world.scenario.data
    pairs, workers = comb(n_domains, 2), min(world.workers, max(comb(n_domains, 2), 1))
    points = data.instructions / n_domains
    dims = getattr(world.recipe.embed, "dims", None) or (world.scenario.encoder.dims if world.scenario.encoder else 0)
    held = world.memory() + data.instructions * 4 * dims * 2  # the table, and the clouds that are made of it
    if sampled := distance.name == "subsampled":
        points = min(points, distance.points)
    one = world.core("compare.sampled", (points / world.rates["compare.points"]) ** world.rates["compare.power"])
    seconds = pairs * one * (distance.repeats / REPEATS if sampled else 1 / REPEATS / FEWER) / workers
    memory = held + 4 * points**2
    where = ALONE if workers == 1 else f"{workers} workers"
    formula = f"pairs * compare.sampled * (points / compare.points)^compare.power / {workers}"
    per_node = -(-workers // world.nodes_of(workers))
    return Cost(
        where, pairs, f"pairs of {points:,.0f} points", seconds, formula, memory=memory * per_node,
        nodes=world.nodes_of(workers), alone=workers == 1,
    )  # fmt: skip


def compose(step: Step, world: World) -> Cost:  # noqa: ARG001
    """Rows are chosen and ordered, without their texts."""
    rows = world.composed
    return Cost(
        ALONE, rows, "rows", world.core("compose.seconds", world.rows), "rows * compose.seconds",
        disk=rows * world.rates["compose.disk"], memory=world.memory("compose.memory", world.rows), alone=True,
    )  # fmt: skip


def export(step: Step, world: World) -> Cost:
    """The chosen rows are written, once for every format."""
    formats = len(step.values["exporters"])
    text = world.composed * world.scenario.data.bytes_per_row * formats
    return Cost(
        ALONE, world.composed * formats, "rows", world.core("export.seconds", text), "bytes * formats * export.seconds",
        disk=text * world.rates["export.disk"], memory=world.rates["export.memory"], alone=True,
    )  # fmt: skip


def small(step: Step, world: World) -> Cost:  # noqa: ARG001
    """What reads counts and shares alone, and takes no time worth a line."""
    return Cost(ALONE, 1, "table", 0.0, "-", memory=world.memory())


def unknown(step: Step, world: World) -> Cost:
    """What was not measured in a way that could be scaled."""
    return Cost("-", 1, step.stage.name, None, "not known", memory=world.memory())


COSTS: Mapping[str, Callable[[Step, World], Cost]] = {
    "ingest": ingest, "pool": pool, "embed": embed, "embed-rows": embed_rows, "answers": answers, "tag": tag, "score": score,
    "compare": compare, "compose": compose, "export": export, "mix": small, "replay": small, "retain": small, "report": small,
    "trial": small, "predict": small,
    "cluster": unknown, "cover": unknown, "interfere": unknown, "reference": unknown, "mask": unknown,
}  # fmt: skip
