"""Training: a composition becomes an adapter or a model, and a small base model is made where none is at hand.

`train` walks a composition in its own order and writes down what each domain lost on the way; an `Adapter` says which
parameters move and how they are saved; `pretrain` makes a base model of known mixture. Heavy libraries load on the first call.
"""

from __future__ import annotations

from composer.train.adapters import ADAPTERS, Adapter
from composer.train.calibrate import calibrate
from composer.train.pretrain import Base, pretrain
from composer.train.reference import reference_losses
from composer.train.reweight import REWEIGHTING
from composer.train.steering import Moving
from composer.train.train import Train, train

__all__ = [
    "ADAPTERS",
    "REWEIGHTING",
    "Adapter",
    "Base",
    "Moving",
    "Train",
    "calibrate",
    "pretrain",
    "reference_losses",
    "train",
]
