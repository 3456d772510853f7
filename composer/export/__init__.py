"""Exporters: the composition as files that others read."""

from __future__ import annotations

from composer.export.axolotl import Axolotl
from composer.export.base import Exporter
from composer.export.chat_jsonl import ChatJsonl
from composer.export.llama_factory import LlamaFactory
from composer.export.ms_swift import MsSwift
from composer.export.open_instruct import OpenInstruct
from composer.export.oumi import Oumi
from composer.export.parquet import Parquet
from composer.export.streaming import Streaming
from composer.export.trainer import Trainer
from composer.export.trl import Trl

EXPORTERS: dict[str, type[Exporter]] = {
    "parquet": Parquet, "chat_jsonl": ChatJsonl, "trl": Trl, "axolotl": Axolotl, "llama_factory": LlamaFactory,
    "ms_swift": MsSwift, "oumi": Oumi, "open_instruct": OpenInstruct, "streaming": Streaming,
}  # fmt: skip

__all__ = ["EXPORTERS", "Exporter", "Trainer"]
