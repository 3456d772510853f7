"""What every stage's cost is told from: the recipe, the scenario, the rates, and how many rows are where."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from flows.recipe import Recipe
from flows.scale.rates import Rates
from flows.scale.scenario import GB, Scenario

TRAINED = ("target", "replay")


@dataclass(frozen=True)
class Cost:
    """What one step costs: amount of what, in how many seconds (None where it is not known), and the formula that says so.

    ``disk`` (what it leaves), ``aside`` (what it needs there meanwhile), ``memory`` (of a node) and ``gpu`` (of a GPU) are
    bytes; ``nodes`` are those that it holds; ``alone`` says that one process does it, and ``troubles`` what else is against it.
    """

    where: str
    amount: float
    unit: str
    seconds: float | None
    formula: str
    disk: float = 0.0
    aside: float = 0.0
    memory: float = 0.0
    gpu: float = 0.0
    nodes: int = 1
    alone: bool = False
    troubles: tuple[str, ...] = ()


@dataclass(frozen=True)
class World:
    """A recipe in a scenario."""

    recipe: Recipe
    scenario: Scenario
    rates: Rates

    def core(self, rate: str, amount: float) -> float:
        """Return the seconds in which one core does an amount, by a rate in core seconds."""
        return amount * self.rates[rate] / self.scenario.cluster.core_speed

    def memory(self, rate: str = "", amount: float = 0.0) -> float:
        """Return the bytes of a process that holds an amount, by a rate in bytes."""
        return self.rates["process.memory"] + (amount * self.rates[rate] if rate else 0.0)

    def stored(self, n_bytes: float) -> float:
        """Return the seconds in which the disk takes or gives so many bytes."""
        return n_bytes / (self.scenario.cluster.disk_gb_per_s * GB)

    @property
    def workers(self) -> int:
        """How many processes make shards: those of a cluster of Ray or Dask, else this one."""
        runner = self.recipe.runner
        return 1 if runner.name == "thread" else min(runner.workers, self.scenario.cluster.nodes * self.scenario.cluster.cores)

    def nodes_of(self, workers: int) -> int:
        """Return the nodes on which so many workers are spread, which are all nodes as soon as there are enough workers."""
        return min(workers, self.scenario.cluster.nodes)

    def of_source(self, name: str) -> float:
        """Return the rows of one source."""
        [source] = [each for each in self.recipe.sources if each.name == name]
        rows = self.scenario.data.of(name, len(self.recipe.sources))
        return min(rows, source.limit or rows)

    @cached_property
    def rows(self) -> float:
        """Rows of all sources."""
        return sum(self.of_source(source.name) for source in self.recipe.sources)

    @cached_property
    def offered(self) -> float:
        """Rows that may be trained on: those of target and replay sources that are not held out."""
        given = sum(self.of_source(source.name) for source in self.recipe.sources if source.role in TRAINED)
        return given * (1 - self.recipe.holdout)

    @cached_property
    def composed(self) -> float:
        """Rows of the composition: what the budget says in its unit, or all that are offered."""
        budget, data = self.recipe.budget, self.scenario.data
        if budget.amount is None:
            return self.offered
        per_row = {"samples": 1.0, "tokens": data.tokens_per_row, "loss_tokens": data.tokens_per_row * data.loss_share}
        return min(budget.amount / per_row[budget.unit], self.offered * budget.max_repeats)

    @property
    def text(self) -> float:
        """Bytes of text of all rows."""
        return self.rows * self.scenario.data.bytes_per_row

    @property
    def instructions(self) -> float:
        """Bytes of text of the distinct instructions."""
        return self.scenario.data.instructions * self.scenario.data.bytes_per_instruction
