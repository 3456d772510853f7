"""transformers in this process: the engine that runs everywhere."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar, Literal

from composer.encode import load_tokenizer
from composer.errors import ModelError
from composer.spec import outside_identity
from composer.types import ModelRef
from probes.engines import Engine
from probes.engines.causal import CausalSession

_loading = Lock()
"""Held while a model is loaded: of two that transformers loads at once in threads, one may lack its tied weights."""


class Hf(Engine):
    """Run a transformers model, and a peft adapter on top of it, in this process.

    ``batch_tokens`` bounds rows times tokens of a batch, and with it memory. ``device: auto`` is the first GPU, else the CPU;
    ``dtype: auto`` is bfloat16 on a GPU and float32 on a CPU. Only safetensors are read, and no code that comes with a model
    is run.
    """

    reference: ClassVar[str] = "-"
    summary: ClassVar[str] = "transformers in this process, on a CPU or a GPU"

    name: Literal["hf"] = "hf"
    batch_tokens: int = outside_identity(8192, ge=1)
    device: str = outside_identity("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    dtype: Literal["auto", "float64", "float32", "bfloat16", "float16"] = outside_identity("auto")

    @contextmanager
    def open(self, model: ModelRef) -> Iterator[CausalSession]:
        """Load the model and its tokenizer.

        Raises
        ------
        ModelError
            Where the path holds no causal language model, the weights do not fill it, or the device is absent.
        """
        import torch
        from transformers.utils import logging

        if model.path.startswith((".", "/", "~")) and not Path(model.path).is_dir():
            raise ModelError("no such model folder", where="base_model.path", got=model.path)
        logging.disable_progress_bar()  # the stage shows its own
        device = self._device()
        tokenizer = load_tokenizer(model.path, chat_template=model.chat_template)
        with _loading:
            loaded = _load(model, dtype=self._dtype(device)).to(device).eval()
        session = CausalSession(loaded, tokenizer, batch_tokens=self.batch_tokens)
        del loaded
        try:
            yield session
        finally:
            session.close()
            if device != "cpu" or model.adapter is not None:  # the collector takes a quarter of a second
                gc.collect()
            if device != "cpu":
                torch.cuda.empty_cache()

    def _device(self) -> str:
        import torch

        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if self.device == "auto":
            return "cuda" if found else "cpu"
        if self.device != "cpu" and int(self.device.partition(":")[2] or 0) >= found:
            raise ModelError("no such device", where="engine.device", got=self.device, expected=f"cpu, or one of {found} GPUs")
        return self.device

    def _dtype(self, device: str) -> str:
        return self.dtype if self.dtype != "auto" else "float32" if device == "cpu" else "bfloat16"


def _load(ref: ModelRef, *, dtype: str) -> Any:
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    from composer.train.model import applied, check

    check(ref.path)
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            ref.path, dtype=dtype, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError) as error:
        hint = "give a folder with config.json and model.safetensors, or a Hub id that can be reached"
        raise ModelError(f"no model: {_line(error)}", where="base_model.path", got=ref.path, hint=hint) from None
    if missing := sorted(found["missing_keys"]):  # transformers would fill these at random
        raise ModelError(
            "the weights do not fill the model", where=ref.path, got=f"{len(missing)} missing, such as {missing[0]}"
        )
    if ref.adapter is None:
        return model
    return applied(model, Path(ref.adapter))


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
