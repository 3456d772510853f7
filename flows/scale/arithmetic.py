"""Sums of a large model: what it holds in memory, how long training takes, how fast it writes. Bytes, seconds, FLOP.

P parameters, T tokens. A pass forward is 2 P T FLOP, one backward 4 P T; where the weights rest, their gradients are saved and
backward is 2 P T.

References
----------
Kaplan et al. 2020 (2001.08361), section 2.1; Rajbhandari et al. 2020 (1910.02054), section 3.1; Korthikanti et al. 2022
(2205.05198), section 4.1.
"""

from __future__ import annotations

from dataclasses import dataclass

from flows.scale.scenario import TERA, Cluster, Gpu, Model

STATES = 16
"""Bytes of a parameter that moves: float32 weight and gradient, and AdamW's two moments."""
HELD = 12
"""Bytes of it in a checkpoint: without the gradient."""
FLOAT, HALF = 4, 2
ACTIVATIONS = 34
"""Bytes that a layer keeps of every token and hidden entry for the pass backward, attention's own scores aside."""
LOGITS = 3 * FLOAT
"""Bytes of a token and vocabulary entry: logits, their float32 copy and its gradient; as if all tokens were trained on."""


@dataclass(frozen=True)
class Training:
    """A training on ``processes`` GPUs: ``tokens`` in ``steps`` of ``passes`` micro-batches each, of ``micro`` tokens at most.

    ``adapter`` says that the base rests in bfloat16, ``shard`` that every process holds a part, ``recompute`` that activations
    are made twice, and ``padding`` how many times the time of packed rows the rows take.
    """

    tokens: float
    steps: int
    passes: int
    micro: float
    processes: int
    adapter: bool
    shard: bool
    recompute: bool
    padding: float = 1.0

    @property
    def factor(self) -> int:
        """FLOP of a token and parameter.

        Examples
        --------
        >>> Training(1, 1, 1, 1, 1, adapter=False, shard=False, recompute=True).factor
        8
        """
        return (4 if self.adapter else 6) + (2 if self.recompute else 0)

    def compute(self, model: Model, *, flops: float) -> float:
        """Return the seconds of all passes at so many FLOP/s of a process."""
        return self.factor * model.parameters * self.tokens * self.padding / (self.processes * flops)

    def exchange(self, model: Model, gpu: Gpu) -> float:
        """Return the seconds in which every process hears what it needs of the others.

        Sharded: float32 weights for either pass and their gradients, in every micro-batch. Whole: gradients, once in a step.
        """
        if self.processes == 1:
            return 0.0
        moved = model.adapter_parameters if self.adapter else model.parameters
        sent = 3 * self.passes if self.shard else 2
        return self.steps * sent * FLOAT * moved * (1 - 1 / self.processes) / (gpu.network_gb_per_s * 1e9)

    def gpu_memory(self, model: Model) -> float:
        """Return the bytes that a GPU must have."""
        moved = model.adapter_parameters if self.adapter else model.parameters
        states = STATES * moved / (self.processes if self.shard else 1)
        base = HALF * model.parameters if self.adapter else 0.0
        outer = 2 * model.vocabulary * model.hidden
        gathered = FLOAT * (2 * (model.parameters - outer) / model.layers + outer) if self.shard else 0.0
        kept = HALF if self.recompute else ACTIVATIONS
        return states + base + gathered + self.micro * (kept * model.hidden * model.layers + LOGITS * model.vocabulary)


@dataclass(frozen=True)
class Serving:
    """Engines of ``gpus`` GPUs each, ``engines`` side by side, each answering at most ``batch`` texts at once."""

    gpus: int
    engines: int
    batch: int

    def writing(self, model: Model, gpu: Gpu, *, mfu: float, bandwidth: float) -> float:
        """Return tokens a second: a step reads all weights once, and computes 2 P for each of its texts; the slower counts.

        Examples
        --------
        >>> shape = {"layers": 1, "hidden": 1, "vocabulary": 1, "kv_bytes_per_token": 1}
        >>> gpu = Gpu(memory_gb=80, tflops=1000, memory_gb_per_s=2000, network_gb_per_s=50)
        >>> Serving(1, 1, batch=8).writing(Model(parameters=1e9, **shape), gpu, mfu=0.5, bandwidth=0.5)
        4000.0
        """
        reads = HALF * model.parameters / (self.gpus * gpu.memory_gb_per_s * 1e9 * bandwidth)
        computes = 2 * model.parameters * self.batch / (self.gpus * gpu.tflops * TERA * mfu)
        return self.engines * self.batch / max(reads, computes)

    def reading(self, model: Model, gpu: Gpu, *, mfu: float) -> float:
        """Return tokens a second of prompts: 2 P each."""
        return self.engines * self.gpus * gpu.tflops * TERA * mfu / (2 * model.parameters)

    def gpu_memory(self, model: Model, *, tokens: float) -> float:
        """Return the bytes that a GPU must have: its part of the weights, and of keys and values of so many tokens a text."""
        return (HALF * model.parameters + self.batch * tokens * model.kv_bytes_per_token) / self.gpus


def whole_nodes(processes: int, cluster: Cluster) -> int:
    """Return the nodes that so many processes of one GPU each take."""
    return -(-processes // max(cluster.gpus, 1))
