"""One self-contained HTML page of a run, or of two runs side by side: every picture with its numbers and its artifacts."""

from composer.report.page import page
from composer.report.record import Record

__all__ = ["Record", "page"]
