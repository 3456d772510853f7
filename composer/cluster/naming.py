"""Names of clusters, from the tags of what is in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import count
from math import log

import numpy as np
from numpy.typing import ArrayLike

from composer.errors import SpecError

UNTAGGED = "untagged"
_MOST = 3  # tags of a name


def name_clusters(labels: ArrayLike, tags: Sequence[Collection[str]]) -> list[str]:
    """Return a name for every cluster from 0 on, made of its most telling tags.

    A tag t tells of a cluster c as ``n_tc ln(n_tc N / (n_c f_t))``: the instructions of c that carry it, times the logarithm
    of how much more frequent it is there than among all N. Of equally telling tags the more frequent comes first, then the
    first in the alphabet. From the largest cluster on, a name is the fewest tags, up to three, that are not a name yet; where
    those are taken it is numbered. A cluster without tags is "untagged".

    Parameters
    ----------
    labels
        (m,) integers, -1 for noise, which has no name.
    tags
        (m,) the tags of each; a tag that is repeated within one counts once.

    Returns
    -------
    As many distinct names as the largest label says, plus one.

    Raises
    ------
    SpecError
        For as many tags as there are not labels.

    References
    ----------
    The terms of the mutual information of tags and clusters; Manning, Raghavan and Schütze, Introduction to Information
    Retrieval (2008), section 17.7 (labels of clusters that tell them apart).

    Examples
    --------
    >>> name_clusters([0, 0, 0, 1, 1], [["sort", "list"], ["sort"], ["sort", "write"], ["poem", "write"], ["poem"]])
    ['sort', 'poem']
    """
    own = np.asarray(labels, dtype=np.int64)
    if own.shape != (len(tags),):
        raise SpecError("tags of other labels", where="tags", expected=f"{own.size} of them", got=len(tags))
    carried = [{tag for tag in each if tag.strip()} for each in tags]
    frequency = Counter(tag for each in carried for tag in each)
    inside: list[Counter[str]] = [Counter() for _ in range(int(own.max(initial=-1)) + 1)]
    for label, each in zip(own.tolist(), carried, strict=True):
        if label >= 0:
            inside[label].update(each)
    size = np.bincount(own[own >= 0], minlength=len(inside))
    names: list[str] = []
    for label, found in enumerate(inside):
        telling = {tag: n * log(n * len(tags) / (int(size[label]) * frequency[tag])) for tag, n in found.items()}
        order = sorted(found, key=lambda tag: (-round(telling[tag], 9), -found[tag], tag))
        names.append(next(name for name in _names(order or [UNTAGGED]) if name not in names))
    return names


def _names(tags: Sequence[str]) -> Iterator[str]:
    """Yield what may be a name: one tag, two, three, then three with a number."""
    for n in range(1, min(len(tags), _MOST) + 1):
        yield ", ".join(tags[:n])
    for number in count(2):
        yield f"{', '.join(tags[:_MOST])} ({number})"
