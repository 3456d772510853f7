"""Which linear maps of a model an adapter is put on: by the end of their path, or a family's feed-forward maps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from composer.errors import SpecError, nearest

GATED = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
FEED_FORWARD: dict[str, tuple[str, ...]] = {
    "llama": GATED,
    "mistral": GATED,
    "qwen2": GATED,
    "qwen3": GATED,
    "gpt2": ("mlp.c_fc", "mlp.c_proj"),
}
"""The linear maps of a layer's feed-forward part, by the name that transformers has for a family."""


def named(linear: Iterable[str], targets: Sequence[str], *, also: str) -> list[str]:
    """Return those of the linear maps, in their order, whose path ends as one of the targets does.

    Raises
    ------
    SpecError
        For a target that is the end of no path; ``also`` says what targets may be beside names.

    Examples
    --------
    >>> named(["layers.0.mlp.up_proj", "layers.0.self_attn.q_proj"], ["up_proj"], also="auto")
    ['layers.0.mlp.up_proj']
    """
    paths = list(linear)
    for target in targets:
        if not any(_ends(path, target) for path in paths):
            known = {path.rsplit(".", 1)[-1] for path in paths}
            hint = nearest(target, known) + f"; targets may be {also}"
            raise SpecError("no such module", where="targets", expected=", ".join(sorted(known)), got=target, hint=hint)
    return [path for path in paths if any(_ends(path, target) for target in targets)]


def chosen(linear: Iterable[str], targets: str | Sequence[str]) -> set[str]:
    """Return those of the linear maps that targets name, or all of them for ``all-linear``.

    Raises
    ------
    SpecError
        For a target that is none of them.
    """
    return set(linear) if isinstance(targets, str) else set(named(linear, targets, also="all-linear"))


def feed_forward(network: Any, linear: Iterable[str]) -> list[str]:
    """Return the linear maps of a model's feed-forward parts.

    Raises
    ------
    SpecError
        For a family of which they are not known.
    """
    family = network.config.model_type
    if family not in FEED_FORWARD:
        known = sorted({path.rsplit(".", 1)[-1] for path in linear})
        hint = f"name the maps in targets; those of this model are {', '.join(known)}"
        expected = ", ".join(FEED_FORWARD)
        raise SpecError("feed-forward maps of an unknown family", where="targets", expected=expected, got=family, hint=hint)
    return named(linear, FEED_FORWARD[family], also="auto")


def _ends(path: str, target: str) -> bool:
    return f".{path}".endswith(f".{target}")
