"""Bounds so small that a small pool goes through groups, chunks and buckets."""

from __future__ import annotations

import pytest

from composer.export import content


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make groups, chunks and buckets so small that a small pool needs many of each."""
    monkeypatch.setattr("composer.export.rows.GROUP", 250)
    monkeypatch.setattr("composer.export.rows.STRETCH", 600)
    monkeypatch.setattr(content, "CHUNK", 20_000)
    monkeypatch.setattr(content, "BUCKET", 50_000)
