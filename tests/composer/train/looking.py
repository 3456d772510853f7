"""What the tests of laws of training share: a law by its word, and a look that it may be given."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from composer.train.reweight import REWEIGHTING, Look

NAN = float("nan")
FIELDS: dict[str, dict[str, Any]] = {
    "expansion": {"target": "d0"},
    "levels": {"levels": [[0, {"d0": 1}], [50, {"d0": 1, "d1": 3}]]},
}
LOSS = st.one_of(st.floats(0, 20), st.just(NAN), st.just(0.0))


def law(word: str, **fields: Any) -> Any:
    return REWEIGHTING[word](**{**FIELDS.get(word, {}), **fields})


def look(weights: Any, loss: Any, **fields: Any) -> Look:
    k = len(loss)
    given: dict[str, Any] = {"previous": np.full(k, 2.0), "reference": np.ones(k), "train_loss": np.full(k, 2.0), **fields}
    for name in ("previous", "reference", "train_loss"):
        given[name] = None if given[name] is None else np.asarray(given[name], dtype=float)
    shares = np.asarray(weights, dtype=float) / np.sum(weights)
    rest = {"step": 50, "domains": tuple(f"d{i}" for i in range(k)), "memory": {}, **given}
    return Look(weights=shares, loss=np.asarray(loss, dtype=float), **rest)
