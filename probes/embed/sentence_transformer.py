"""Sentence embeddings by a model of the sentence-transformers library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from composer.errors import ModelError
from composer.progress import bar
from composer.spec import OnModel, outside_identity
from probes.embed import Embedder


class SentenceTransformer(OnModel, Embedder):
    """Encode with a sentence-transformers model; a plain transformers folder is pooled by the mean of its last states.

    Every distinct text is encoded once, in batches of like length. Texts longer than the model reads are cut by it.

    References
    ----------
    Reimers and Gurevych, Sentence-BERT, EMNLP 2019, section 3.
    """

    reference: ClassVar[str] = "Reimers and Gurevych, EMNLP 2019, section 3"
    summary: ClassVar[str] = "a sentence-transformers model from a folder or the Hub"

    name: Literal["sentence_transformer"] = "sentence_transformer"
    model: str
    device: str = outside_identity("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    batch_size: int = Field(default=64, ge=1, json_schema_extra={"outside_identity": True})

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return float32 rows of unit norm, shape (n, d).

        Raises
        ------
        ModelError
            Where the path holds no model that can be read.
        """
        model = self._load()
        distinct, where = np.unique(np.array(texts, dtype=object), return_inverse=True)
        order = sorted(range(len(distinct)), key=lambda i: -len(distinct[i]))
        rows = np.zeros((len(distinct), model.get_embedding_dimension()), dtype=np.float32)
        with bar("embedding", total=len(distinct), unit="texts") as shown:
            for start in range(0, len(order), self.batch_size):
                part = order[start : start + self.batch_size]
                rows[part] = model.encode(
                    [distinct[i] for i in part], batch_size=self.batch_size, normalize_embeddings=True, show_progress_bar=False
                )
                shown.advance(len(part))
        return rows[where]

    def _load(self) -> Any:
        import sentence_transformers as library
        from safetensors import SafetensorError

        try:
            device = None if self.device == "auto" else self.device
            return library.SentenceTransformer(
                self.model, device=device, trust_remote_code=False, model_kwargs={"use_safetensors": True}
            )
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError) as error:
            line = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
            hint = "give a folder of sentence-transformers, or a Hub id that can be reached"
            raise ModelError(f"no sentence model: {line}", where="embed.model", got=self.model, hint=hint) from None
