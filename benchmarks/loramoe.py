"""The layer of LoRAMoE, there and back: ours against a loop over the experts, the frozen map alone, and LoRA of equal rank.

1,024 inputs and outputs, 8 experts of rank 4, 2,048 tokens, no dropout (a loop draws one mask for each expert, ours one for
all), float32, on one thread or, with ``--cuda``, on a GPU; ``--large`` takes 4,096 inputs and outputs and 16,384 tokens. The
loop is the formula as one would write it, and as the published class has it: every expert has its two linear maps, whose
outputs are weighed and added one after the other. The loss has a part of the output and one of the routers' shares, which
balancing takes. All sides run in turns in this process.

Kept activations are the bytes of all distinct tensors that autograd holds between forward and backward, weights among them.
Outputs and the gradients of the input, ``A``, ``B`` and ``Wg`` must be equal to 1e-5 of their largest entry.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable

import torch
from _harness import DEVICE, LARGE, QUICK, Ratio, seconds, tell
from torch import Tensor, nn

from composer.train.moe.layer import Experts

HIDDEN, TOKENS, REPEATS = (128, 256, 3) if QUICK else (4096, 16384, 11) if LARGE else (1024, 2048, 11)
PASSES = 1 if DEVICE == "cpu" else 20  # of a turn
N_EXPERTS, RANK, ALPHA, SEED = 8, 4, 32.0, 11
Pass = Callable[[], tuple[Tensor, Tensor | None]]


def made() -> tuple[Experts, Tensor]:
    """Return the layer in the middle of training, and an input that needs a gradient."""
    torch.manual_seed(SEED)
    layer = Experts(nn.Linear(HIDDEN, HIDDEN), n_experts=N_EXPERTS, rank=RANK, alpha=ALPHA, dropout=0.0)
    nn.init.normal_(layer.B, std=0.02)
    return layer, torch.randn(1, TOKENS, HIDDEN, requires_grad=True)


class Loop(nn.Module):
    """The same layer, expert by expert."""

    def __init__(self, layer: Experts) -> None:
        super().__init__()
        self.base, self.scale = layer.base, layer.scale
        self.route = nn.Linear(HIDDEN, N_EXPERTS, bias=False)
        self.A = nn.ModuleList(nn.Linear(HIDDEN, RANK, bias=False) for _ in range(N_EXPERTS))
        self.B = nn.ModuleList(nn.Linear(RANK, HIDDEN, bias=False) for _ in range(N_EXPERTS))
        with torch.no_grad():
            self.route.weight.copy_(layer.Wg)
            for n, (a, b) in enumerate(zip(self.A, self.B, strict=True)):
                a.weight.copy_(layer.A.split(RANK)[n])
                b.weight.copy_(layer.B.split(RANK, dim=1)[n])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output and the shares."""
        shares = self.route(x).softmax(-1, dtype=torch.float32)
        out = self.base(x)
        for n, (a, b) in enumerate(zip(self.A, self.B, strict=True)):
            out = out + shares[..., n, None] * b(a(x)) * self.scale
        return out, shares

    def joined(self, given: list[Tensor]) -> list[Tensor]:
        """Return outputs and gradients of the input, of the router and of every expert as those of one layer."""
        out, x, route, *experts = given
        return [out, x, torch.cat(experts[:N_EXPERTS]), torch.cat(experts[N_EXPERTS:], dim=1), route]


def ours(layer: Experts, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the output and the shares."""
    layer.sink.emptied(anew=True)
    return layer(x), layer.sink.emptied(anew=False)[""]


def lora(layer: Experts, x: Tensor) -> tuple[Tensor, None]:
    """Return the output of LoRA of the experts' rank together."""
    return layer.base(x) + nn.functional.linear(nn.functional.linear(x, layer.A), layer.B) * layer.scale, None


def there_and_back(work: Pass, loss: tuple[Tensor, Tensor], of: list[Tensor]) -> list[Tensor]:
    """Return the outputs and the gradients."""
    out, shares = work()
    value = (out * loss[0]).sum() if shares is None else (out * loss[0]).sum() + (shares * loss[1]).sum()
    found = torch.autograd.grad(value, of, allow_unused=True)
    return [out.detach(), *(each for each in found if each is not None)]


def kept(work: Pass) -> int:
    """Return the bytes that autograd keeps for the way back."""
    seen: dict[int, int] = {}

    def pack(value: Tensor) -> Tensor:
        seen[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        out = work()
    assert out[0].requires_grad
    return sum(seen.values())


def same(one: list[Tensor], two: list[Tensor]) -> bool:
    """Say whether outputs and gradients are equal to rounding."""
    return len(one) == len(two) and all(
        float((a - b).abs().max()) <= 1e-5 * float(b.abs().max()) for a, b in zip(one, two, strict=True)
    )


def main() -> None:
    """Run all sides in turns, compare what they gave, and tell."""
    torch.set_num_threads(1)
    torch.set_default_device(DEVICE)
    layer, x = made()
    loss, apart = (torch.randn(1, TOKENS, HIDDEN), torch.randn(1, TOKENS, N_EXPERTS)), Loop(layer)
    one = [x, layer.A, layer.B, layer.Wg]
    sides: dict[str, tuple[Pass, list[Tensor]]] = {
        "loop": (lambda: apart(x), [x, apart.route.weight, *(each.weight for each in (*apart.A, *apart.B))]),
        "frozen": (lambda: (layer.base(x), None), [x]),
        "lora": (lambda: lora(layer, x), [x, layer.A, layer.B]),
        "ours": (lambda: ours(layer, x), one),
    }
    took: dict[str, list[float]] = {side: [] for side in sides}
    equal = True
    for i in range(REPEATS + 1):
        given = {}
        for side, (work, of) in sides.items():
            taken, results = seconds(lambda: [there_and_back(work, loss, of) for _ in range(PASSES)])  # noqa: B023
            took[side] += [taken / PASSES] if i else []  # the first turn finds its memory
            given[side] = results[-1]
        equal = equal and same(given["ours"], apart.joined(given["loop"]))
        print(
            f"loramoe {i}: " + ", ".join(f"{side} {times[-1]:.5f} s" for side, times in took.items() if times), file=sys.stderr
        )
    held = {side: kept(work) for side, (work, _) in sides.items()}
    ratios = [
        Ratio(f"ours over {what}", statistics.median(a / b for a, b in zip(took["ours"], took[side], strict=True)), target,
              "lower", REPEATS)
        for side, what, target in (
            ("loop", "a loop over experts", 0.35), ("frozen", "the frozen map", 1.3), ("lora", "LoRA of equal rank", 1.05),
        )
    ]  # fmt: skip
    ratios.append(Ratio("kept activations over a loop's", held["ours"] / held["loop"], 0.2, "lower", 1))
    sizes = {"hidden": HIDDEN, "tokens": TOKENS, "experts": N_EXPERTS, "rank": RANK}
    costs = {
        "milliseconds": {side: round(1000 * statistics.median(times), 3) for side, times in took.items()},
        "kept MiB": {side: round(n / 2**20, 2) for side, n in held.items()},
    }
    tell("loramoe_large" if LARGE else "loramoe", ratios, equal=equal, sizes=sizes, costs=costs)


if __name__ == "__main__":
    main()
