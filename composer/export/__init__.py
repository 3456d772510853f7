"""Exporters: the composition as files that others read."""

from __future__ import annotations

from composer.export.base import Exporter
from composer.export.chat_jsonl import ChatJsonl
from composer.export.parquet import Parquet

EXPORTERS: dict[str, type[Exporter]] = {"parquet": Parquet, "chat_jsonl": ChatJsonl}

__all__ = ["EXPORTERS", "Exporter"]
