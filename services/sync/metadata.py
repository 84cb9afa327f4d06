"""The schema that all rooms put their tables into."""

from shared.database.tables import service_metadata

SCHEMA = "sync"
metadata = service_metadata(SCHEMA)
