"""One name for tags that mean the same: near ones by their embeddings, so that InsInfo does not count spellings.

A tag goes by the nearest name that is known already, else by the most frequent member of its cluster, else by its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field, model_validator

from composer.errors import SpecError
from composer.neighbours import dbscan, nearest
from composer.spec import Spec, member_of
from probes.embed import EMBEDDERS, Embedder
from probes.embed.lexical import Lexical

if TYPE_CHECKING:
    AnyEmbedder = Embedder
else:
    AnyEmbedder = member_of(EMBEDDERS, kind="embedder")


class Merge(Spec):
    """DBSCAN over the tags' embeddings by cosine distance; a cluster goes by its most frequent member.

    A tag is core where ``min_samples`` tags, itself included, lie within ``eps``; tags within ``eps`` of a core tag are of its
    cluster; the others are noise and keep their names, so fewer than ``min_samples`` near tags are never merged. Every cluster
    is merged, the last one too (the released code leaves it out). Of equally frequent members the first in the alphabet names
    the cluster. A tag within ``eps`` of a known name goes by the nearest such and is not clustered; it is compared with names
    alone and never with what goes by them, or a name would reach farther from run to run.

    The embedder decides what is near; PhraseBERT is the paper's. ``lexical`` is refused: the few dimensions that it fits to
    the tags themselves bring rare ones together that have nothing in common. Of 9,899 tags of real instructions it renamed 28 %
    ("fish" to "omit or add"), a small sentence model 0.9 %.

    References
    ----------
    InsCL (2403.11435), section 3.3; ``min_samples`` is from the released code. Ester et al., DBSCAN, KDD 1996.
    """

    embed: AnyEmbedder
    eps: float = Field(default=0.1, gt=0, le=2)
    min_samples: int = Field(default=5, ge=1)

    @model_validator(mode="after")
    def _check(self) -> Merge:
        if isinstance(self.embed, Lexical):
            expected = "an embedder that knows meanings, such as {name: sentence_transformer, model: ...}"
            raise SpecError("cannot tell tags apart", where="embed", got=self.embed.name, expected=expected)
        return self

    def names(self, counts: Mapping[str, int], *, known: Collection[str] = ()) -> dict[str, str]:
        """Return the name of every tag of ``counts``; ``known`` are names that are taken already."""
        tags, taken = sorted(counts.keys() - set(known)), sorted(known)
        names = {tag: tag for tag in counts}
        if not tags:
            return names
        rows = self.embed.encode([*taken, *tags])  # in one call: a space may belong to its texts
        if taken:
            rows, near = rows[len(taken) :], nearest(rows[len(taken) :], rows[: len(taken)], eps=self.eps)
            names.update({tags[i]: taken[near[i]] for i in np.flatnonzero(near >= 0)})
            apart = np.flatnonzero(near < 0)
            tags, rows = [tags[i] for i in apart], rows[apart]
        for members in self._clusters(tags, rows):
            names.update(dict.fromkeys(members, min(members, key=lambda tag: (-counts[tag], tag))))
        return names

    def _clusters(self, tags: Sequence[str], rows: np.ndarray) -> Collection[list[str]]:
        clusters: dict[int, list[str]] = defaultdict(list)
        labels = dbscan(rows, eps=self.eps, min_samples=self.min_samples)
        for tag, label in zip(tags, labels.tolist(), strict=True):
            clusters[label].append(tag)
        clusters.pop(-1, None)  # noise
        return clusters.values()
