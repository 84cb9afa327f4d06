from services.preauth.chargers import tables as chargers_tables  # noqa: F401 - they are part of the metadata
from services.preauth.tables import metadata
from shared.database.migrations import run_environment

run_environment(metadata)
