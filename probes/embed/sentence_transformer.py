"""Sentence embeddings by a model of the sentence-transformers library."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar, Literal

import numpy as np

from composer.errors import ModelError
from composer.progress import bar
from composer.spec import OnModel, outside_identity
from probes.embed import Embedder

CHUNK = 1024  # texts that are tokenised at once
BLOCK = 8 * CHUNK  # texts that are encoded apart from others: whole chunks, so that a block has the batches it has among all
WASTE = 0.03  # of a batch's tokens may be padding, once it has a quarter of what it may have
ON_CPU, ON_GPU = 1024, 16_384  # tokens of a batch: on a CPU its states then stay in the cache
_CPUINFO = Path("/proc/cpuinfo")
_BF16 = frozenset({"avx512_bf16", "amx_bf16"})
_loading = Lock()  # while transformers loads, the process has another default dtype


class SentenceTransformer(OnModel, Embedder):
    """Encode with a sentence-transformers model; a plain transformers folder is pooled by the mean of its last states.

    Every distinct text is tokenised and encoded once, in batches of like numbers of tokens. The model's own default prompt, its
    longest input and its pooling are kept to: texts that are longer are cut. ``batch_tokens`` bounds rows times tokens of a
    batch; where it is not given, that is 1,024 on a CPU and 16,384 elsewhere.

    ``dtype: auto`` is bfloat16 where the processor computes in it natively (avx512_bf16 or amx_bf16, or a GPU that supports it)
    and float32 elsewhere. Vectors of the two have a cosine near 0.9999, so the word bears identity; "auto" is one word, and
    vectors under it may differ that little between machines. They are float32 either way. The last digits also depend on which
    texts share a batch.

    References
    ----------
    Reimers and Gurevych, Sentence-BERT, EMNLP 2019, section 3.
    """

    reference: ClassVar[str] = "Reimers and Gurevych, EMNLP 2019, section 3"
    summary: ClassVar[str] = "a sentence-transformers model from a folder or the Hub"
    fitted: ClassVar[bool] = False

    name: Literal["sentence_transformer"] = "sentence_transformer"
    model: str
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    device: str = outside_identity("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    batch_tokens: int | None = outside_identity(None, ge=1)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return float32 rows of unit norm, shape (n, d).

        Raises
        ------
        ModelError
            Where the path holds no model that can be read.
        """
        return self._encode(self._load(), texts)

    def blocks(self, texts: Sequence[str]) -> list[list[str]]:
        """Return the distinct texts in blocks of ``BLOCK``, cut between the chunks that ``encode`` makes of all of them."""
        distinct = np.unique(np.array(texts, dtype=object))
        order = [distinct[i] for i in _by_length(distinct)]
        return [order[start : start + BLOCK] for start in range(0, len(order), BLOCK)]

    def encode_each(self, blocks: Iterable[Sequence[str]]) -> Iterator[np.ndarray]:
        """Yield ``encode`` of every block; the model is loaded once."""
        model = self._load()
        return (self._encode(model, block) for block in blocks)

    def _encode(self, model: Any, texts: Sequence[str]) -> np.ndarray:
        distinct, where = np.unique(np.array(texts, dtype=object), return_inverse=True)
        rows = np.zeros((len(distinct), model.get_embedding_dimension()), dtype=np.float32)
        order = _by_length(distinct)
        budget = self.batch_tokens or (ON_CPU if model.device.type == "cpu" else ON_GPU)
        with bar("embedding", total=len(distinct), unit="texts") as shown:
            for start in range(0, len(order), CHUNK):
                chunk = np.array(order[start : start + CHUNK])
                for part, vectors in _vectors(model, [distinct[i] for i in chunk], budget=budget):
                    rows[chunk[part]] = vectors
                    shown.advance(len(part))
        return rows[where]

    def _load(self) -> Any:
        import sentence_transformers as library
        from safetensors import SafetensorError

        try:
            device = None if self.device == "auto" else self.device
            with _loading:
                model = library.SentenceTransformer(
                    self.model, device=device, trust_remote_code=False, model_kwargs={"use_safetensors": True}
                )
            return model.to(_dtype(self.dtype, model.device.type)).eval()
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError) as error:
            line = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
            hint = "give a folder of sentence-transformers, or a Hub id that can be reached"
            raise ModelError(f"no sentence model: {line}", where="embed.model", got=self.model, hint=hint) from None


def _by_length(texts: Sequence[str] | np.ndarray) -> list[int]:
    """Return the order in which texts are encoded: the longest first, so that a chunk needs little padding."""
    return sorted(range(len(texts)), key=lambda i: -len(texts[i]))


def _dtype(word: str, device: str) -> Any:
    """Return the torch dtype that a word means on a kind of device."""
    import torch

    if word == "auto":
        native = (device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)) or (
            device == "cpu" and bool(torch.backends.mkldnn.is_available()) and cpu_has_bf16()  # type: ignore[no-untyped-call]
        )
        word = "bfloat16" if native else "float32"
    return getattr(torch, word)


def cpu_has_bf16() -> bool:
    """Return whether the processor multiplies bfloat16 natively; false where the system does not say."""
    if not _CPUINFO.exists():
        return False
    flags = (line.split(":", 1)[1].split() for line in _CPUINFO.read_text().splitlines() if line.startswith("flags"))
    return bool(_BF16 & set(next(flags, ())))


def _vectors(model: Any, texts: list[str], *, budget: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield places of texts and their vectors, batch by batch; the texts are tokenised together."""
    import torch

    with torch.inference_mode():
        features = model.preprocess(texts, prompt=model.prompts.get(model.default_prompt_name))
        mask = features.get("attention_mask")
        padded = isinstance(mask, torch.Tensor) and mask.shape[:1] == (len(texts),) and mask.ndim == 2
        for part in batches(mask.sum(dim=1).numpy(), budget=budget) if padded else (np.arange(len(texts)),):
            batch = _cut(features, torch.from_numpy(part)) if padded else features  # unpadded tokens have no rows to cut
            batch = {key: value.to(model.device) if torch.is_tensor(value) else value for key, value in batch.items()}
            found = model(batch)["sentence_embedding"].float()
            yield part, torch.nn.functional.normalize(found, dim=1).cpu().numpy()


def batches(lengths: np.ndarray, *, budget: int, waste: float = WASTE) -> Iterator[np.ndarray]:
    """Yield indices of rows of like length, the longest first, so that little of a batch is padding.

    A batch ends where rows times its longest would exceed the budget, or where more than a share ``waste`` of it would be
    padding and it has a quarter of the budget; one row is always taken.

    Examples
    --------
    >>> [part.tolist() for part in batches(np.array([2, 9, 3, 9]), budget=18)]
    [[1, 3], [2, 0]]
    """
    order = np.argsort(-lengths, kind="stable")
    start, tokens = 0, 0
    for i, length in enumerate(lengths[order].tolist()):
        longest, rows = int(lengths[order[start]]), i - start
        size, filled = longest * (rows + 1), tokens + length
        if rows and (size > budget or (size - filled > waste * size and 4 * tokens >= budget)):
            yield order[start:i]
            start, filled = i, length
        tokens = filled
    if len(order):
        yield order[start:]


def _cut(features: Mapping[str, Any], part: Any) -> dict[str, Any]:
    """Return the features of some rows without the columns that are padding to all of them, on whichever side these are."""
    import torch

    mask = features["attention_mask"]
    used = mask[part].any(dim=0).nonzero().flatten().tolist() or [0]
    columns = slice(used[0], used[-1] + 1)

    def cut(value: Any) -> Any:
        if not torch.is_tensor(value) or value.shape[:1] != mask.shape[:1]:
            return value
        return value[part][:, columns] if value.shape[:2] == mask.shape else value[part]

    return {key: cut(value) for key, value in features.items()}
