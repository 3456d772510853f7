"""Pictures of artifacts: drawn on request, the same for the same artifact, and only of what has one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from composer import tables
from composer.artifact import Artifact, Store
from composer.errors import InputError
from flows.pictures import PICTURES, draw

PNG = b"\x89PNG\r\n\x1a\n"
DISTANCES = {
    "domains": ["a", "$b$ & <c>", "d"], "value": [[0, 0.9, 0.1], [0.9, 0, 0.8], [0.1, 0.8, 0]], "kind": "distance",
    "measure": "wasserstein",
}  # fmt: skip
CLUSTERS = {"clusters": [{"cluster": 0, "name": "$x_2", "instructions": 2, "rows": 3}], "noise": 1}
MIXTURE = {"domains": ["a", "b"], "weights": [0.75, 0.25], "unit": "samples", "law": "explicit"}
SCHEDULE = {"phases": [{"name": "a", "amount": 8, "mixture": MIXTURE, "current": ["a"]}]}
POINTS = pl.DataFrame(
    {"instruction_id": ["i", "j", "k"], "cluster": [0, 0, -1], "x": [0.0, 1.0, 2.0], "y": [0.0, 1.0, 0.0]},
    schema=tables.CLUSTERS,
)


LOOKS = pl.DataFrame(
    [
        {
            "step": step, "position": 8 * step, "domain": domain, "weight": weight, "loss_nats": 2 - weight, "n_loss_tokens": 9,
            "reference_nats": 1.5, "state": "updated", "told": [],
        }
        for step in (0, 5)
        for domain, weight in (("$b$ & <c>", 0.25), ("a", 0.75))
    ],
    schema=tables.WEIGHTS,
)  # fmt: skip


@pytest.fixture
def artifacts(tmp_path: Path) -> dict[str, Artifact]:
    store = Store(tmp_path / "store")

    def made(kind: str, name: str, document: Any, **given: pl.DataFrame) -> Artifact:
        def build(folder: Path) -> dict[str, Any]:
            (folder / name).write_text(json.dumps(document))
            for table, frame in given.items():
                tables.write(
                    frame, folder / f"{table}.parquet", {"clusters": tables.CLUSTERS, "weights": tables.WEIGHTS}[table]
                )
            return {}

        return store.make(kind, version=1, spec={}, inputs={}, build=build)

    return {
        "similarity": made("similarity", "similarity.json", DISTANCES),
        "clusters": made("clusters", "clusters.json", CLUSTERS, clusters=POINTS),
        "model": made("model", "train.json", {}, weights=LOOKS),
        "schedule": made("schedule", "schedule.json", SCHEDULE),
        "mixture": made("mixture", "mixture.json", MIXTURE),
        "report": made("report", "run.json", {}),
    }


@pytest.mark.parametrize("kind", PICTURES)
def test_what_has_a_picture_is_drawn_the_same_twice(kind: str, artifacts: dict[str, Artifact], tmp_path: Path) -> None:
    png = draw(artifacts[kind], tmp_path / "new" / "one.png")
    assert png.read_bytes().startswith(PNG)
    one, other = (draw(artifacts[kind], tmp_path / name).read_bytes() for name in ("one.svg", "other.svg"))
    assert one == other
    assert b"<svg" in one


def test_near_domains_standside_by_side() -> None:
    import numpy as np

    from composer.similarity_matrix import side_by_side

    order = side_by_side(np.array(DISTANCES["value"])).tolist()
    assert abs(order.index(0) - order.index(2)) == 1
    assert side_by_side(np.zeros((2, 2))).tolist() == [0, 1]


def test_what_has_no_picture_is_named(artifacts: dict[str, Artifact], tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="no picture of this kind; expected mixture, similarity, clusters, schedule, model; got report"
    ):
        draw(artifacts["report"], tmp_path / "x.png")
    with pytest.raises(InputError, match=r"--to: not a picture's name; expected a name ending in .png, .svg, .pdf; got x.jpeg"):
        draw(artifacts["schedule"], tmp_path / "x.jpeg")
