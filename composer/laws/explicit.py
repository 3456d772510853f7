"""Shares set by hand."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from composer.errors import SpecError
from composer.laws.base import Law
from composer.types import MixContext, array

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Explicit(Law):
    """The weights that the recipe states, normalised; a domain that is left out gets none.

    Examples
    --------
    >>> Explicit(weights={"law": 1, "code": 3}).weights(MixContext(domains=("law", "code", "general"))).tolist()
    [0.25, 0.75, 0.0]
    """

    name: Literal["explicit"] = "explicit"
    reference: ClassVar[str] = "-"
    summary: ClassVar[str] = "weights stated in the recipe"

    # The recipe's word is ``weights``; in the class that word is the law's one method. The identity carries the field's name.
    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)
    shares: dict[str, Weight] = Field(alias="weights", min_length=1)

    def mass(self, context: MixContext) -> NDArray[np.float64]:
        """Return the stated weights in the order of the domains."""
        if unknown := sorted(self.shares.keys() - set(context.domains)):
            known = ", ".join(context.domains)
            raise SpecError("no such domain", where="law.weights", expected=f"names among {known}", got=", ".join(unknown))
        return array(self.shares.get(domain, 0.0) for domain in context.domains)
