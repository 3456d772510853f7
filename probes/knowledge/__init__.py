"""Knowledge probes: how much of each domain a base model already knows."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from composer.spec import Spec
from composer.types import KnowledgeDistribution
from probes.cost import Counts
from probes.engines import Session


class KnowledgeProbe(Spec):
    """A way to measure what a base model knows."""

    name: str
    summary: ClassVar[str]
    reference: ClassVar[str]

    def placed(self, at: Callable[[str], Path]) -> KnowledgeProbe:  # noqa: ARG002
        """Return the probe with its files where ``at`` finds them, and with what identifies their content."""
        return self

    @abstractmethod
    def plan(self, *, domains: Sequence[str], reference: pl.DataFrame, tokenizer: Any, seed: int) -> Counts:
        """Return what :meth:`measure` asks of the model at most, counted without a model."""

    @abstractmethod
    def measure(
        self, session: Session, *, domains: Sequence[str], reference: pl.DataFrame, seed: int, folder: Path
    ) -> KnowledgeDistribution:
        """Return a share per domain.

        ``reference`` has the columns domain and text and shows what a domain looks like; ``folder`` takes the record.
        """


from probes.knowledge.cloze import Cloze  # noqa: E402  members build on what stands above
from probes.knowledge.perplexity import Perplexity  # noqa: E402
from probes.knowledge.self_generation import SelfGeneration  # noqa: E402

KNOWLEDGE: dict[str, type[KnowledgeProbe]] = {
    "self_generation": SelfGeneration,
    "perplexity": Perplexity,
    "cloze": Cloze,
}
