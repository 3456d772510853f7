"""Compose SFT datasets: read any rows, weigh domains, plan replay, choose rows, train; every step a plain function.

The public names, each imported when it is first used, so that ``import composer`` stays light:

``Source``, ``Mixture``, ``Schedule``, ``KnowledgeDistribution``, ``SimilarityMatrix`` and ``Store`` are the values that travel;
``ingest_source`` and ``pool_sources`` read rows; ``score_instructions`` is InsInfo; ``compare_domains`` measures domains
against each other; ``plan_replay`` makes a schedule of a mixture and a policy; ``compose_rows`` chooses the rows;
``train_on`` trains on them.

``composer`` is also the import name of MosaicML's Composer (the distribution ``mosaicml``): one environment holds one of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from composer.artifact import Store as Store
    from composer.compose import compose as compose_rows
    from composer.ingest import ingest as ingest_source
    from composer.insinfo import insinfo as score_instructions
    from composer.pooling import pool as pool_sources
    from composer.replay.schedule import plan as plan_replay
    from composer.similarity.matrix import compare as compare_domains
    from composer.train.train import train as train_on
    from composer.types import KnowledgeDistribution, Mixture, Schedule, SimilarityMatrix, Source

# A public name must not be that of a module: importing the module would put it in the name's place.
_WHERE = {
    "KnowledgeDistribution": ("composer.types", "KnowledgeDistribution"),
    "Mixture": ("composer.types", "Mixture"),
    "Schedule": ("composer.types", "Schedule"),
    "SimilarityMatrix": ("composer.types", "SimilarityMatrix"),
    "Source": ("composer.types", "Source"),
    "Store": ("composer.artifact", "Store"),
    "compare_domains": ("composer.similarity.matrix", "compare"),
    "compose_rows": ("composer.compose", "compose"),
    "ingest_source": ("composer.ingest", "ingest"),
    "plan_replay": ("composer.replay.schedule", "plan"),
    "pool_sources": ("composer.pooling", "pool"),
    "score_instructions": ("composer.insinfo", "insinfo"),
    "train_on": ("composer.train", "train"),
}

__all__ = [
    "KnowledgeDistribution", "Mixture", "Schedule", "SimilarityMatrix", "Source", "Store", "compare_domains", "compose_rows",
    "ingest_source", "plan_replay", "pool_sources", "score_instructions", "train_on",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'composer' has no attribute '{name}'")
    module, attribute = _WHERE[name]
    return getattr(importlib.import_module(module), attribute)
