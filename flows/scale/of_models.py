"""What the stages cost that ask or train a model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import polars as pl

from composer.train import Train
from flows.plan import Step
from flows.scale.arithmetic import FLOAT, HALF, HELD, STATES, Serving, Training, whole_nodes
from flows.scale.of_data import ALONE, unknown
from flows.scale.scenario import TERA
from flows.scale.world import Cost, World
from probes.knowledge.self_generation import SelfGeneration

BATCH = 256  # texts that vLLM answers at once unless it is told otherwise; servers are asked for as many as the engine says


def base(step: Step, world: World) -> Cost:
    """A small base model is trained on one core."""
    spec = step.values["spec"]
    tokens = spec.tokens or spec.documents * world.scenario.data.tokens_per_row
    size = spec.vocab * spec.hidden + spec.layers * (4 * spec.hidden**2 + 3 * spec.hidden * spec.intermediate)
    seconds = world.core("train.flop", 6 * size * tokens)
    return Cost(
        ALONE, tokens, "tokens", seconds, "6 * parameters * tokens * train.flop", disk=FLOAT * size, memory=world.memory()
    )


def probe(step: Step, world: World) -> Cost:
    """The base model writes texts, on its engine."""
    asked = step.values["probe"]
    if not isinstance(asked, SelfGeneration):
        return unknown(step, world)
    counts = asked.plan(domains=step.values["domains"], reference=pl.DataFrame(), tokenizer=None, seed=0)
    text = world.text * world.rates["frame.copies"]
    if not any(source.role == "reference" for source in world.recipe.sources):
        text += world.offered * world.scenario.data.bytes_per_row * world.rates["list.copies"]
    batch = min(counts.generations, asked.shard, getattr(step.values["engine"], "concurrency", BATCH))
    return _asked(
        step,
        world,
        read=counts.prompt_tokens,
        written=counts.output_tokens,
        batch=batch,
        longest=asked.max_new_tokens,
        held=text,
    )


def evaluate(step: Step, world: World) -> Cost:
    """Held-out rows are read, on the engine."""
    data, spec, n = world.scenario.data, step.values["spec"], len(step.values.get("domains") or world.recipe.order)
    rows = min(world.rows * world.recipe.holdout, (spec.max_samples or math.inf) * n)
    held = world.text * world.rates["frame.copies"]
    return _asked(step, world, read=rows * data.tokens_per_row, written=0, batch=BATCH, longest=data.tokens_per_row, held=held)


def _asked(step: Step, world: World, *, read: float, written: float, batch: float, longest: float, held: float) -> Cost:
    model, cluster, engine = world.scenario.model, world.scenario.cluster, step.values["engine"]
    memory = world.memory() + held
    if cluster.gpu is None:
        seconds = world.core("train.flop", 2 * model.parameters * read) + world.core(
            "write.flop", 2 * model.parameters * written
        )
        formula = "2 * parameters * (read * train.flop + written * write.flop)"
        return Cost(ALONE, read + written, "tokens", seconds, formula, memory=memory + FLOAT * model.parameters, alone=True)
    engines = len(engine.base_urls) if engine.name == "openai" else 1
    gpus = {"openai": cluster.gpus, "vllm": getattr(engine, "tensor_parallel_size", 1)}.get(engine.name, 1)
    serving = Serving(gpus, engines, max(1, math.ceil(batch / engines)))
    speed = {"mfu": world.rates["write.mfu"], "bandwidth": world.rates["write.bandwidth"]}
    seconds = read / serving.reading(model, cluster.gpu, mfu=world.rates["read.mfu"])
    seconds += written / serving.writing(model, cluster.gpu, **speed) + world.stored(HALF * model.parameters * engines)
    troubles = [] if gpus <= cluster.gpus else [f"an engine of {gpus} GPUs, and a node has {cluster.gpus}"]
    troubles += [] if engines <= cluster.nodes else [f"{engines} servers, and there are {cluster.nodes} nodes"]
    return Cost(
        f"{engines} x {engine.name} on {gpus} GPUs", read + written, "tokens", seconds,
        "2 P read / (peak * read.mfu) + written / batch * max(weights / bandwidth, 2 P batch / peak) + loading", memory=memory,
        gpu=serving.gpu_memory(model, tokens=longest), nodes=min(max(engines, 1), cluster.nodes), troubles=tuple(troubles),
    )  # fmt: skip


def train(step: Step, world: World) -> Cost:
    """A phase of the composition is trained on."""
    spec, model, data = step.values["spec"], world.scenario.model, world.scenario.data
    rows = world.composed / len(world.recipe.groups)
    passes, micro = _passes(spec, tokens_per_row=data.tokens_per_row, n_domains=len(world.recipe.order))
    filled = 1.0 if spec.packing is not None or spec.micro_batch == 1 else world.rates["train.padded"]
    training = Training(
        tokens=rows * data.tokens_per_row * spec.epochs, steps=math.ceil(rows / spec.batch_size) * spec.epochs,
        passes=passes, micro=micro, processes=spec.processes, adapter=spec.adapter.needs_base, shard=spec.shard,
        recompute=spec.gradient_checkpointing, padding=filled,
    )  # fmt: skip
    moved = model.adapter_parameters if training.adapter else model.parameters
    checkpoints = training.steps // spec.checkpoint_every
    text = world.rows * data.bytes_per_row
    seconds = world.core("read.seconds", rows * data.bytes_per_row) + checkpoints * world.stored(HELD * moved)
    host = world.memory("read.memory", text)
    disk, aside = FLOAT * moved, 2 * HELD * moved  # a checkpoint goes when the next is whole
    if world.scenario.cluster.gpu is None:
        return _on_processors(training, world, seconds, disk=disk, aside=aside, memory=host + STATES * moved)
    return _on_gpus(training, world, seconds, disk=disk, aside=aside, host=host, moved=moved)


def _passes(spec: Train, *, tokens_per_row: float, n_domains: int) -> tuple[int, float]:
    """Return the micro-batches of a process in a step, and the tokens of one.

    The rows of a step are shared out, and each process lays its own into bins of one domain. Of r rows of D even domains
    D (1 - (1 - 1/D)^r) are met, and each takes a bin at least.
    """
    rows = max(1.0, spec.batch_size / spec.processes)
    if spec.packing is None:
        n, length = rows, tokens_per_row
    else:
        met = 1.0 if spec.batches == "domain" else n_domains * (1 - (1 - 1 / n_domains) ** rows)
        n, length = max(rows * tokens_per_row / spec.packing, met), float(spec.packing)
    once = min(spec.micro_batch or math.ceil(n), math.ceil(n))
    return math.ceil(n / once), once * length


def _on_processors(training: Training, world: World, seconds: float, *, disk: float, aside: float, memory: float) -> Cost:
    done = training.factor * world.scenario.model.parameters * training.tokens * training.padding
    seconds += world.core("train.flop", done) / training.processes
    formula = f"{training.factor} * parameters * tokens * padding * train.flop + bytes * read.seconds + checkpoints"
    return Cost(
        ALONE, training.tokens, "tokens", seconds, formula, disk=disk, aside=aside, memory=memory, alone=training.processes == 1
    )


def _on_gpus(training: Training, world: World, seconds: float, *, disk: float, aside: float, host: float, moved: float) -> Cost:
    model, cluster = world.scenario.model, world.scenario.cluster
    assert cluster.gpu is not None
    compute = training.compute(model, flops=cluster.gpu.tflops * TERA * world.rates["train.mfu"])
    exchange = training.exchange(model, cluster.gpu)
    on_node = min(training.processes, cluster.gpus)
    loaded = (FLOAT if training.shard or not training.adapter else HALF) * model.parameters
    memory = max(on_node * (host + loaded), on_node * host + HELD * moved)
    nodes = min(whole_nodes(training.processes, cluster), cluster.nodes)
    seconds += max(compute, exchange) + world.stored(HALF * model.parameters * nodes + FLOAT * moved)
    troubles = []
    if training.processes > cluster.gpus * cluster.nodes:
        troubles.append(f"{training.processes} processes, and there are {cluster.gpus * cluster.nodes} GPUs")
    if training.processes > cluster.gpus:
        troubles.append("several nodes: `run` starts one; write the training as a job and start it with torchrun")
    passes = f"max({training.factor} P T / ({training.processes} * peak * train.mfu), exchange)"
    formula = f"{passes} + bytes * read.seconds + loading + checkpoints"
    return Cost(
        f"{training.processes} GPUs", training.tokens, "tokens", seconds, formula, disk=disk, aside=aside, memory=memory,
        gpu=training.gpu_memory(model), nodes=nodes, troubles=tuple(troubles),
    )  # fmt: skip


COSTS: Mapping[str, Callable[[Step, World], Cost]] = {"base": base, "probe": probe, "evaluate": evaluate, "train": train}
