"""A mixture of LoRAs on disk: every expert as a LoRA of peft, the routers beside them, and the experts' order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from composer.errors import ModelError
from composer.fingerprint import write_json
from composer.train.mola.bank import Expert, read_expert, write_expert
from composer.train.mola.router import Routers

EXPERTS, ROUTER, KEPT = "experts", "router.safetensors", "mola.json"


def write(mixture: Any, folder: Path) -> None:
    """Write the experts into ``experts/<name>/``, the routers (where there are some) and the names."""
    from safetensors.torch import save_file

    for name in mixture.bank.names:
        write_expert(mixture.bank.expert(name), folder / EXPERTS / name)
    if mixture.routers is not None:
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in mixture.routers.state_dict().items()}
        save_file(tensors, folder / ROUTER, metadata={"format": "pt"})
    write_json(folder / KEPT, {"experts": mixture.bank.names})


def read(folder: Path) -> tuple[dict[str, Expert], Routers | None]:
    """Return the experts in their order, and the routers; a single expert has none.

    Raises
    ------
    ModelError
        Where the folder holds no mixture, or one that was cut short.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        names: list[str] = json.loads((folder / KEPT).read_text(encoding="utf-8"))["experts"]
        found = load_file(folder / ROUTER) if len(names) > 1 else None
        routers = None
        if found is not None:
            routers = Routers(*found["weight"].shape)
            routers.load_state_dict(found)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        what, expected = f"no mixture of LoRAs: {error}"[:300], f"{KEPT}, {ROUTER} and {EXPERTS}/"
        raise ModelError(what, where=str(folder), expected=expected, hint="train it again") from None
    return {name: read_expert(folder / EXPERTS / name, name=name) for name in names}, routers
