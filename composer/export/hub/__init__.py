"""The Hub: what an export or a trained model consists of there, what of it is missing, and how it is sent.

A push is a plan first: pieces against what a repository has. Files are sent before the one commit that makes them visible, so
that a push that breaks leaves what was there as it was, and the next one sends only what is missing.
"""

from __future__ import annotations

from composer.export.hub.pieces import Piece, pieces_in
from composer.export.hub.plan import Plan, make_plan
from composer.export.hub.push import Pushed, push
from composer.export.hub.repository import Repository
from composer.export.hub.state import State, look

__all__ = ["Piece", "Plan", "Pushed", "Repository", "State", "look", "make_plan", "pieces_in", "push"]
