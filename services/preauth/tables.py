"""Preauth's schema. Each room's tables stand in its own `tables.py`, on this metadata."""

from typing import Final

from shared.database.tables import service_metadata

SCHEMA: Final = "preauth"

metadata = service_metadata(SCHEMA)
