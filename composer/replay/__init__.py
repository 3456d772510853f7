"""Replay: how much of the earlier domains comes back. A policy is one file, one class and one line in ``REPLAY``."""

from __future__ import annotations

from composer.replay.base import ReplayPolicy
from composer.replay.coverage import CoverageReplay
from composer.replay.distance import DistanceReplay
from composer.replay.interference import InterferenceReplay
from composer.replay.loss import LossReplay
from composer.replay.none import NoReplay
from composer.replay.padding import Padding
from composer.replay.random import RandomReplay
from composer.replay.spread import SpreadReplay
from composer.replay.stratified import StratifiedReplay

__all__ = ["REPLAY", "ReplayPolicy"]

REPLAY: dict[str, type[ReplayPolicy]] = {
    "none": NoReplay,
    "padding": Padding,
    "random": RandomReplay,
    "stratified": StratifiedReplay,
    "spread": SpreadReplay,
    "distance": DistanceReplay,
    "coverage": CoverageReplay,
    "interference": InterferenceReplay,
    "loss": LossReplay,
}
