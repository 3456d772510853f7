"""Selectors: which rows of a domain come first. A selector is one file, one class and one line in ``SELECTORS``."""

from __future__ import annotations

from composer.select.base import Selector
from composer.select.diverse import DiverseSelector
from composer.select.instruction import InstructionSelector
from composer.select.prototype_data import PrototypeDataSelector
from composer.select.prototype_instruction import PrototypeInstructionSelector
from composer.select.spread import SpreadSelector
from composer.select.top import TopSelector
from composer.select.uniform import UniformSelector

__all__ = ["SELECTORS", "Selector"]

SELECTORS: dict[str, type[Selector]] = {
    "uniform": UniformSelector,
    "instruction": InstructionSelector,
    "spread": SpreadSelector,
    "prototype_data": PrototypeDataSelector,
    "prototype_instruction": PrototypeInstructionSelector,
    "diverse": DiverseSelector,
    "top": TopSelector,
}
