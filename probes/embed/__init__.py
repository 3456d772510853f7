"""Embedders: texts to unit vectors, so that a scalar product is a cosine."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from composer.spec import Spec


class Embedder(Spec):
    """A way to place texts in a space."""

    name: str
    summary: ClassVar[str]
    reference: ClassVar[str]

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return float32 rows of unit norm, shape (n, d), in the order of the texts; equal texts have equal rows."""


from probes.embed.lexical import Lexical  # noqa: E402  members build on what stands above
from probes.embed.sentence_transformer import SentenceTransformer  # noqa: E402

EMBEDDERS: dict[str, type[Embedder]] = {"lexical": Lexical, "sentence_transformer": SentenceTransformer}
