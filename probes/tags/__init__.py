"""Taggers: what an instruction asks for, as a few short tags; InsInfo counts them.

    texts --propose--> tags --spelling--> spellings --pool, merge--> names

A member of the family proposes. What follows is the same for all: a tag has one spelling, and spellings of one meaning go by
one name. Without ``lemmas``, ``merge`` and ``pool`` a tag's name is its spelling.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from composer.spec import Spec, outside_identity
from probes.tags.merge import Merge
from probes.tags.pool import Pool, content
from probes.tags.spelling import normalise as normalise
from probes.tags.spelling import speller


class Tagger(Spec):
    """A way to name what texts are about.

    ``lemmas`` are the languages whose words are reduced to their dictionary form, such as ``[en]``. ``merge`` gives near tags
    one name. ``pool`` is the path of a pool of known tags, which an earlier run left as ``pool.parquet``; its content bears
    identity. A tag that the pool knows keeps its name there, whatever ``merge`` would say.
    """

    name: str
    summary: ClassVar[str]
    reference: ClassVar[str]

    lemmas: tuple[str, ...] = ()
    merge: Merge | None = None
    pool: str | None = outside_identity(None)

    def placed(self, at: Callable[[str], Path]) -> Self:
        """Return the tagger with its pool where ``at`` finds it."""
        return self if self.pool is None else self.model_copy(update={"pool": str(at(self.pool))})

    @abstractmethod
    def propose(self, texts: Sequence[str], *, folder: Path | None) -> list[tuple[str, ...]]:
        """Return tags of every text in any spelling, the best first; ``folder`` takes a record where there is one."""

    def left(self, texts: Sequence[str], *, folder: Path) -> list[str]:  # noqa: ARG002
        """Return the names of shards of the work that are not in the folder yet; none where it is not split."""
        return []

    def ask(self, texts: Sequence[str], *, folder: Path, names: Sequence[str]) -> None:
        """Do some shards of the work, of which ``tag`` of the same texts and folder makes use."""

    def tag(self, texts: Sequence[str], *, folder: Path | None = None) -> list[tuple[str, ...]]:
        """Return the distinct names of every text's tags, the best first; a text may have none.

        Neither the order of the texts nor how often one occurs bears on a text's tags. With a ``folder`` the pool as it is
        after this run is left there as ``pool.parquet``, beside what the tagger itself records.

        Raises
        ------
        SourceError
            Where the pool cannot be read.
        """
        spell = speller(self.lemmas)
        known = Pool() if self.pool is None else Pool.read(self.pool, spell=spell)
        proposed = self.propose(texts, folder=folder)
        spelt = [tuple(dict.fromkeys(filter(None, map(spell, tags)))) for tags in proposed]
        counts = Counter(tag for tags in dict(zip(texts, spelt, strict=True)).values() for tag in tags)
        names = self._names(counts, known)
        if folder is not None:
            known.grown(names, counts).write(folder / "pool.parquet")
        return [tuple(dict.fromkeys(names[tag] for tag in tags)) for tags in spelt]

    def _names(self, counts: Mapping[str, int], known: Pool) -> dict[str, str]:
        new = {tag: count for tag, count in counts.items() if tag not in known.names}
        names = self.merge.names(new, known=set(known.names.values())) if self.merge else {tag: tag for tag in new}
        return {tag: names[tag] if tag in new else known.names[tag] for tag in counts}

    def identity(self) -> dict[str, Any]:
        """Return what bears identity; of the pool it is the content of its file."""
        return {**super().identity(), **({} if self.pool is None else {"pool": content(self.pool)})}


from probes.tags.keyphrase import Keyphrase  # noqa: E402  members build on what stands above
from probes.tags.llm import Llm  # noqa: E402

TAGGERS: dict[str, type[Tagger]] = {"keyphrase": Keyphrase, "llm": Llm}
