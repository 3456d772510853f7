"""Rows of instructions, and the tables that say something of them."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from composer.spec import rng
from composer.types import SelectContext


class World:
    """What the tests of the selectors make their rows and tables with."""

    @staticmethod
    def rows(sizes):
        """Rows of instructions i0, i1, ... of the given sizes, with ids in no order that means anything."""
        instructions = [f"i{i}" for i, size in enumerate(sizes) for _ in range(size)]
        ids = [f"{k:016x}" for k in rng(0, "ids").permutation(10_000)[: len(instructions)]]
        return pl.DataFrame({"sample_id": ids, "instruction_id": instructions}, schema_overrides={"sample_id": pl.String})

    @staticmethod
    def scores(frame, values, *, name="insinfo"):
        """Scores of samples, each that of its instruction."""
        by_instruction = pl.DataFrame({"instruction_id": list(values), "value": [float(v) for v in values.values()]})
        joined = frame.join(by_instruction, on="instruction_id")
        return joined.select("sample_id", pl.lit(name).alias("score"), "value")

    @staticmethod
    def instruction_scores(values, *, name="insinfo"):
        """Scores of instructions."""
        return pl.DataFrame({"instruction_id": list(values), "value": [float(v) for v in values.values()]}).select(
            "instruction_id", pl.lit(None, dtype=pl.UInt32).alias("phase"), pl.lit(name).alias("score"), "value"
        )

    @staticmethod
    def vectors(at, *, key="instruction_id"):
        """A table of vectors by id."""
        return pl.DataFrame(
            {key: list(at), "vector": list(at.values())}, schema={key: pl.String, "vector": pl.List(pl.Float32)}
        )

    @staticmethod
    def clusters(labels):
        """Clusters of i0, i1, ..., without places on a map."""
        return pl.DataFrame({"instruction_id": [f"i{i}" for i in range(len(labels))], "cluster": labels}).cast(
            {"instruction_id": pl.String, "cluster": pl.Int32}
        )

    def everything(self, frame):
        """All that a selector may need; instructions and rows share vectors, so that chance has ties to break."""
        names = sorted(frame["instruction_id"].unique(), key=lambda i: int(i[1:]))
        angles = {name: [float(np.cos(k % 4)), float(np.sin(k % 4))] for k, name in enumerate(names)}
        return SelectContext(
            scores=self.scores(frame, {name: k % 3 for k, name in enumerate(names)}),
            instruction_scores=self.instruction_scores({name: k % 3 for k, name in enumerate(names)}),
            embeddings=self.vectors({**angles, "new": [1.0, 0.0]}),
            sample_embeddings=self.vectors({i: angles[name] for i, name in frame.iter_rows()}, key="sample_id"),
            current=pl.DataFrame({"instruction_id": ["new"], "n": [3]}),
            clusters=self.clusters([k % 3 - 1 for k in range(len(names))]),
            answers=pl.DataFrame({"sample_id": frame["sample_id"], "answer": np.arange(len(frame)) % 3}),
        )

    @staticmethod
    def picked(selector, frame, context, n, *, seed=7):
        """How many of the first n rows each instruction gives."""
        first = selector.order(frame, context=context, n=n, seed=seed)[:n]
        given = dict(frame[first]["instruction_id"].value_counts().iter_rows())
        return [given.get(i, 0) for i in sorted(frame["instruction_id"].unique(), key=lambda i: int(i[1:]))]


@pytest.fixture(scope="session")
def world():
    return World()
