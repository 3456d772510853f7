"""Raw rows of any known shape become samples: read, normalised, counted in tokens, and every dropped row with its reason.

A source goes through :func:`ingest` alone (:func:`read`, then the tokens are counted), so that a grown source is read again and
the others are not; ``composer.pooling`` joins the sources and holds out what is only measured.
"""

from __future__ import annotations

from composer.ingest.location import Dataset, Files, fingerprint, locate
from composer.ingest.reading import read, rows
from composer.ingest.samples import count_shards, ingest
from composer.ingest.shapes import SHAPES

__all__ = ["SHAPES", "Dataset", "Files", "count_shards", "fingerprint", "ingest", "locate", "read", "rows"]
