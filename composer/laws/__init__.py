"""Laws: how much each domain weighs. A law is one file, one class and one line in ``LAWS``."""

from __future__ import annotations

from composer.laws.base import Law
from composer.laws.explicit import Explicit
from composer.laws.inverse import Inverse
from composer.laws.knowledge import Knowledge
from composer.laws.proportional import Proportional
from composer.laws.temperature import Temperature
from composer.laws.uniform import Uniform

__all__ = ["LAWS", "Law"]

LAWS: dict[str, type[Law]] = {
    "uniform": Uniform,
    "proportional": Proportional,
    "temperature": Temperature,
    "explicit": Explicit,
    "knowledge": Knowledge,
    "inverse": Inverse,
}
