"""Embedders: texts to unit vectors, so that a scalar product is a cosine."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np

from composer.errors import SpecError
from composer.spec import Spec


class Embedder(Spec):
    """A way to place texts in a space.

    ``fitted`` says that the space is made from the texts of one call and belongs to them; otherwise a vector is its text's own
    and can be used again.
    """

    name: str
    summary: ClassVar[str]
    reference: ClassVar[str]
    fitted: ClassVar[bool]

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return float32 rows of unit norm, shape (n, d), in the order of the texts; equal texts have equal rows."""

    def blocks(self, texts: Sequence[str]) -> list[list[str]]:
        """Return the distinct texts in blocks of a constant size that may be encoded apart from one another, anywhere.

        ``encode`` of a block gives the rows that ``encode`` of all texts has for it, bit for bit. Where the rows of a text
        depend on all others, as in a space that is fitted, there is one block.
        """
        return [list(dict.fromkeys(texts))] if len(texts) else []

    def encode_each(self, blocks: Iterable[Sequence[str]]) -> Iterator[np.ndarray]:
        """Yield ``encode`` of every block; what it takes to begin, such as loading a model, is done once."""
        return map(self.encode, blocks)

    def encode_new(self, texts: Sequence[str], *, known: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return what ``encode`` does, but take the rows of known texts as they are and encode the others alone.

        Parameters
        ----------
        texts
            (n,) in any order, with or without repetitions.
        known
            Rows (d,) by text, made by an equal embedder. One that is fitted makes no use of them.

        Returns
        -------
        (n, d) float32. A known row is returned bit for bit; a new one may differ in its last digits from what ``encode`` gives
        for all texts, as it may there with the texts that it shares a batch with.

        Raises
        ------
        SpecError
            Where a known row has another number of dimensions than the new ones.
        """
        new = list(dict.fromkeys(text for text in texts if text not in known))
        if self.fitted or len(new) == len(set(texts)):
            return self.encode(texts)
        rows = dict(zip(new, self.encode(new), strict=True)) if new else {}
        found = [rows[text] if text in rows else np.asarray(known[text], dtype=np.float32) for text in texts]
        if len(shapes := {row.shape for row in found}) > 1:
            got = " and ".join(str(shape) for shape in sorted(shapes))
            hint = "keep the vectors of each embedder apart"
            raise SpecError(
                "known vectors of another space", where=f"embed.{self.name}", expected="one shape", got=got, hint=hint
            )
        return np.stack(found)


from probes.embed.lexical import Lexical  # noqa: E402  members build on what stands above
from probes.embed.sentence_transformer import SentenceTransformer  # noqa: E402

EMBEDDERS: dict[str, type[Embedder]] = {"lexical": Lexical, "sentence_transformer": SentenceTransformer}
