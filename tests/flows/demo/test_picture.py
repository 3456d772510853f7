"""The demo's picture shows what the demo's document says, and nothing else."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from flows.demo import picture, story

PNG = b"\x89PNG\r\n\x1a\n"
SHARES = [
    {"domain": "a", "realised_share": 0.9, "at_hand": 0.5},
    {"domain": "$b$ & <c>", "realised_share": 0.1, "at_hand": 0.5},
]


def forgetting(end: float) -> dict[str, Any]:
    return {"own": {"one": 0.75, "two": 0.5}, "end": {"one": end, "two": 0.5}, "kept": end / 0.75}


DOCUMENT: dict[str, Any] = {
    "probe": {
        "domains": ["a", "$b$ & <c>"], "truth": [0.75, 0.25], "p": [0.9, 0.1],
        "low": [0.8, 0.05], "high": [0.95, 0.2], "n": 1000,
    },
    "composition": {"unit": "loss_tokens", "domains": SHARES},
    "replayed": [{"task": "one", "new": 40, "replayed": {}}, {"task": "two", "new": 40, "replayed": {"one": 7}}],
    "forgetting": {picture.NONE: forgetting(0.0), picture.REPLAY: forgetting(0.6)},
}  # fmt: skip


def drawn(document: dict[str, Any], folder: Path) -> dict[str, bytes]:
    assert picture.draw(document, folder) == folder / "story.png"
    return {name: (folder / name).read_bytes() for name in picture.PAINTS}


def test_light_and_dark_are_drawn_the_same_twice_and_1280_pixels_wide(tmp_path: Path) -> None:
    first = drawn(DOCUMENT, tmp_path)
    assert first == drawn(DOCUMENT, tmp_path)
    assert first["story.png"] != first["story-dark.png"]
    for content in first.values():
        assert content.startswith(PNG)
        assert int.from_bytes(content[16:20]) == 1280


@pytest.mark.parametrize(
    ("panel", "change"),
    [
        ("probe", {"truth": [0.6, 0.4]}),
        ("composition", {"domains": [SHARES[0] | {"at_hand": 0.2}, SHARES[1]]}),
        ("forgetting", {picture.REPLAY: forgetting(0.3)}),
    ],
)
def test_another_number_is_another_picture(panel: str, change: dict[str, Any], tmp_path: Path) -> None:
    other = copy.deepcopy(DOCUMENT)
    other[panel] |= change
    assert drawn(DOCUMENT, tmp_path) != drawn(other, tmp_path)


def test_no_text_runs_out_of_its_column() -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(picture.WIDTH / picture.DPI, picture.HEIGHT / picture.DPI), dpi=picture.DPI)
    paint = picture.PAINTS["story.png"]
    picture._known(picture._axes(figure, picture.LEFT, picture.ABOVE), DOCUMENT["probe"], paint)
    picture._kept(picture._axes(figure, picture.RIGHT, picture.BELOW), DOCUMENT["forgetting"], paint)
    for axes, (low, high) in zip(figure.axes, ((0, 650), (650, picture.WIDTH)), strict=True):
        for text in [*axes.texts, *axes.get_yticklabels()]:
            box = text.get_window_extent()
            assert low <= box.x0 <= box.x1 <= high


def test_what_comes_back_is_told_by_task() -> None:
    rows = [{"domain": "b", "is_replay": False, "rows": 40}, {"domain": "a", "is_replay": True, "rows": 7}]
    assert story._replayed({"phases": [{"name": "b", "domains": rows}]}) == [{"task": "b", "new": 40, "replayed": {"a": 7}}]
