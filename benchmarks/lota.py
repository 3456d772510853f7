"""The step of a mask's entries against AdamW's on whole matrices, what it holds in memory, and what it leaves alone.

24 matrices of 12.6 million entries in all, float32, one thread, with gradients that are given; ``--cuda`` puts them on a GPU,
and ``--large`` takes 6 matrices of 201 million. Theirs: torch's fused AdamW on
the matrices. Ours: take the kept entries' gradients, fused AdamW on them, write them back, as a training with lota does between
the backward passes; random masks that keep a tenth and a hundredth. Both sides step from the same weights with the same
gradients and a weight decay of 0.1, and every kept entry must come out as theirs.

What is held is all that is there beside the matrices: ours is moments, values and places, theirs moments. At last the entries
that are not kept are compared with those of the beginning, bit by bit, after as many steps again.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence

import torch
from _harness import DEVICE, LARGE, QUICK, Ratio, seconds, tell
from torch import nn

from composer.train.sparse.entries import Kept
from composer.train.sparse.mask import Mask, extract_mask, shapes_of

LAYERS, WIDTH = (1, 64) if QUICK else (1, 4096) if LARGE else (4, 512)
STEPS, REPEATS, LATER = (3, 2, 20) if QUICK else (10, 7, 1000)
SEED = 5
SPARSITY = {0.99: 1.0, 0.9: 1.6}  # with the targets of the ratio


def matrices() -> dict[str, nn.Parameter]:
    """Return the matrices: four square ones and two four times as wide, layer by layer."""
    dice = torch.Generator().manual_seed(SEED)
    shapes = [(WIDTH, WIDTH)] * 4 + [(4 * WIDTH, WIDTH), (WIDTH, 4 * WIDTH)]
    named = {f"layers.{i}.{k}.weight": shape for i in range(LAYERS) for k, shape in enumerate(shapes)}
    return {name: nn.Parameter((0.02 * torch.randn(shape, generator=dice)).to(DEVICE)) for name, shape in named.items()}


def gradients(weights: dict[str, nn.Parameter], *, seed: int) -> dict[str, torch.Tensor]:
    """Return gradients by chance."""
    dice = torch.Generator().manual_seed(seed)
    return {name: torch.randn(weight.shape, generator=dice).to(DEVICE) for name, weight in weights.items()}


def optimiser(parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    """Return AdamW as the trainer has it."""
    return torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.1, fused=True)


class Dense:
    """Whole matrices and their optimiser."""

    def __init__(self) -> None:
        self.weights = matrices()
        self.optimiser = optimiser(list(self.weights.values()))

    def step(self, given: dict[str, torch.Tensor]) -> None:
        """Take one step."""
        for name, weight in self.weights.items():
            weight.grad = given[name]
        self.optimiser.step()
        self.optimiser.zero_grad()

    def held(self) -> int:
        """Return the bytes that are held beside the matrices."""
        return sum(value.nbytes for state in self.optimiser.state.values() for value in state.values())


class Masked(Dense):
    """The kept entries of the matrices and their optimiser."""

    def __init__(self, mask: Mask) -> None:
        self.weights = matrices()
        self.kept = Kept(self.weights, mask, None)
        self.optimiser = optimiser(list(self.kept.parameters()))

    def step(self, given: dict[str, torch.Tensor]) -> None:
        """Take one step."""
        for each, gradient in zip(self.kept, given.values(), strict=True):
            each.weight.grad = gradient
            each._take(each.weight)
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.kept.scatter()

    def held(self) -> int:
        """Return the bytes that are held beside the matrices."""
        return super().held() + sum(each.values.nbytes + each.places.nbytes for each in self.kept)


def same(ours: Masked, theirs: Dense) -> bool:
    """Return whether every kept entry came out as it does where all move."""
    pairs = zip(ours.kept, theirs.weights.values(), strict=True)
    return all(torch.allclose(each.values, other.reshape(-1)[each.places], rtol=0, atol=1e-6) for each, other in pairs)


def untouched(ours: Masked, mask: Mask) -> bool:
    """Return whether all other entries have the bits of the beginning, and the kept ones moved."""
    alike = [
        torch.equal(weight[~mask.boolean(name)], before[~mask.boolean(name)]) and not torch.equal(weight, before)
        for (name, weight), before in zip(ours.weights.items(), matrices().values(), strict=True)
    ]
    return all(alike)


def main() -> None:
    """Measure both masks against whole matrices, in turns."""
    torch.set_num_threads(1)
    weights = matrices()
    given = gradients(weights, seed=SEED + 1)
    ratios, equal, shares = list[Ratio](), True, dict[float, float]()
    for sparsity, target in SPARSITY.items():
        mask = extract_mask(gradients(weights, seed=SEED + 2), sparsity)
        ours, theirs, found = Masked(mask), Dense(), list[float]()
        for i in range(REPEATS + 1):
            their_s, _ = seconds(lambda side=theirs: [side.step(given) for _ in range(STEPS)])
            our_s, _ = seconds(lambda side=ours: [side.step(given) for _ in range(STEPS)])
            equal = equal and same(ours, theirs)
            if i:  # the first turn makes the moments
                found.append(our_s / their_s)
            print(f"{sparsity:.0%} {i}: ours {our_s:.5f} s, theirs {their_s:.5f} s for {STEPS} steps", file=sys.stderr)
        name = f"step at {sparsity:.0%} over fused AdamW on all"
        ratios.append(Ratio(name, statistics.median(found), target, "lower", len(found)))
        shares[sparsity] = ours.held() / theirs.held()
    ratios.append(Ratio("bytes held at 90% over AdamW's moments of all", shares[0.9], 0.35, "lower", 1))
    with torch.no_grad():
        for i in range(LATER):
            ours.step(given if i % 2 else {name: -each for name, each in given.items()})
    equal = equal and untouched(ours, mask)
    n = sum(weight.numel() for weight in weights.values())
    sizes = {"entries": n, "steps_a_turn": STEPS, "steps_at_last": LATER, "held_at_99": round(shares[0.99], 5)}
    assert mask.shapes == shapes_of(weights)
    tell("lota_large" if LARGE else "lota", ratios, equal=equal, sizes=sizes)


if __name__ == "__main__":
    main()
