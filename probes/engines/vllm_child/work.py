"""What the child does with vLLM.

Requests go to ``LLM.llm_engine`` one by one, as ``LLM.generate`` gives them, and all before the first step; so vLLM batches
over all of them, and each is answered when it is done. Tokens come in and go out: no text is made here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any, get_args

COMPACT = {"backend": "xgrammar", "disable_any_whitespace": True}
"""JSON without white space between its parts: a model that knows nothing would write it without end."""

CPU_KV_CACHE_BYTES = 1 << 30
"""On a CPU vLLM would take nearly all memory for its key-value cache, where nothing else is said."""

Done = list[list[Any]]


class Work:
    """A loaded model and the jobs that it answers."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        vllm = import_module("vllm")
        adapter = settings["adapter"]
        self._several = settings["tensor_parallel_size"] > 1
        self._llm = vllm.LLM(**_arguments(settings))
        self._engine = self._llm.llm_engine
        paths = [] if adapter is None else adapter.get("paths") or [adapter["path"]]
        requested = import_module("vllm.lora.request").LoRARequest
        self._adapters = [requested(f"adapter{i}" if i else "adapter", i + 1, path) for i, path in enumerate(paths)]
        for each in self._adapters:
            self._engine.add_lora(each)  # now, not at the first prompt
        self._always = self._adapters[0] if adapter is not None and "path" in adapter else None
        self._params = vllm.SamplingParams
        self._terms = import_module("vllm.sampling_params")
        self._tokens = import_module("vllm.inputs").tokens_input

    def facts(self) -> dict[str, Any]:
        """Return what the model can take and which tokens end a text; the model has then answered once."""
        config = self._llm.model_config
        ends = config.try_get_generation_config().get("eos_token_id")
        [[[_, [logprobs, _]]]] = self.score([[0, 0]])
        return {
            "positions": config.max_model_len,
            "vocabulary": config.get_vocab_size(),
            "ends": ends if isinstance(ends, list) else [ends] if ends is not None else [],
            "finite": all(map(math.isfinite, logprobs)),
        }

    def do(self, job: dict[str, Any]) -> Iterator[Done]:
        """Yield ``[row, value]`` of the sequences of a job, those together that were done in the same step."""
        known: dict[str, Callable[..., Iterator[Done]]] = {
            "complete": self.complete, "score": self.score, "choose": self.choose,
        }  # fmt: skip
        return known[job.pop("do")](**job)

    def complete(
        self,
        sequences: Sequence[list[int]],
        *,
        seeds: Sequence[int],
        ends: list[int],
        max_new_tokens: int,
        temperature: float,
        schema: dict[str, Any] | None,
        experts: list[int] | None = None,
    ) -> Iterator[Done]:
        """Yield the new tokens of every sequence, JSON of the schema where one is given; the expert -1 is none.

        Sequences without an expert come after all others and not among them: there vLLM gives them another's (0.32 on a CPU,
        where their -1 counts from the last expert).
        """
        terms: dict[str, Any] = {"max_tokens": max_new_tokens, "temperature": temperature, "stop_token_ids": ends}
        if schema is not None:
            terms["structured_outputs"] = self._terms.StructuredOutputsParams(json=schema)
        numbers = experts or [0] * len(sequences)
        for group in ([row for row, i in enumerate(numbers) if (i < 0) == bare] for bare in (False, True)):
            params = (self._sampling(seed=seeds[row], **terms) for row in group)
            adapters = [self._always if experts is None else self._adapters[numbers[row]] if numbers[row] >= 0 else None
                        for row in group]  # fmt: skip
            for done in self._run([sequences[row] for row in group], params, _new, adapters=adapters):
                yield [[group[i], value] for i, value in done]

    def score(self, sequences: Sequence[list[int]]) -> Iterator[Done]:
        """Yield two lists per sequence: the log-probabilities of all tokens but the first, and whether none was likelier.

        The last token is asked for as the one that comes next, so that a sequence may fill all positions of the model.
        """
        params = (self._sampling(prompt_logprobs=1, logprob_token_ids=ids[-1:]) for ids in sequences)
        return self._run([ids[:-1] for ids in sequences], params, _scores)

    def choose(self, sequences: Sequence[list[int]], *, choices: list[int]) -> Iterator[Done]:
        """Yield the log-probabilities of the choices as the next token of every sequence."""
        params = (self._sampling(logprob_token_ids=choices) for _ in sequences)
        return self._run(sequences, params, lambda output: output.outputs[0].logprobs.logprobs[1:])

    def close(self) -> None:
        """End the processes that vLLM started; where it has none, this process's end is enough and faster."""
        if self._several:
            self._engine.engine_core.shutdown()

    def _sampling(self, *, max_tokens: int = 1, temperature: float = 0.0, **fields: Any) -> Any:
        return self._params(
            max_tokens=max_tokens, temperature=temperature, detokenize=False, flat_logprobs=True,
            output_kind=self._terms.RequestOutputKind.FINAL_ONLY, skip_clone=True, **fields,
        )  # fmt: skip

    def _run(
        self, prompts: Iterable[list[int]], params: Iterable[Any], read: Callable[[Any], Any], *, adapters: Any = None
    ) -> Iterator[Done]:
        for row, (prompt, wanted) in enumerate(zip(prompts, params, strict=True)):
            adapter = self._always if adapters is None else adapters[row]
            self._engine.add_request(str(row), self._tokens(prompt), wanted, lora_request=adapter)
        while self._engine.has_unfinished_requests():
            if done := [[int(output.request_id), read(output)] for output in self._engine.step() if output.finished]:
                yield done


def _arguments(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of ``vllm.LLM``; what is left open is decided by the device."""
    on_cpu = import_module("vllm.platforms").current_platform.is_cpu()
    arguments = {name: value for name, value in settings.items() if name != "adapter" and value is not None}
    if arguments["dtype"] == "auto":
        arguments["dtype"] = "float32" if on_cpu else "bfloat16"
    if on_cpu:
        arguments = {"kv_cache_memory_bytes": CPU_KV_CACHE_BYTES, "enforce_eager": True, **arguments}
    if settings["adapter"] is not None:
        ranks = get_args(import_module("vllm.config.lora").MaxLoRARanks)
        rank = min((each for each in ranks if each >= settings["adapter"]["rank"]), default=max(ranks))
        n = len(settings["adapter"].get("paths", [None]))
        arguments |= {"enable_lora": True, "max_lora_rank": rank, "max_loras": n, "max_cpu_loras": n,
                      "lora_target_modules": settings["adapter"]["modules"]}  # fmt: skip
    return arguments | {
        "load_format": "safetensors", "trust_remote_code": False, "use_tqdm_on_load": False,
        "structured_outputs_config": COMPACT,
    }  # fmt: skip


def _new(output: Any) -> list[int]:
    return list(output.outputs[0].token_ids)


def _scores(output: Any) -> tuple[list[float], list[int]]:
    pairs = output.prompt_logprobs.logprobs  # the token's own, then the likeliest one's, from the second token on
    likeliest, last = output.outputs[0].logprobs.logprobs
    own, best = [*pairs[::2], last], [*pairs[1::2], likeliest]
    return own, [int(one >= other) for one, other in zip(own, best, strict=True)]
