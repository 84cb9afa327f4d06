from services.sync.tables import metadata
from shared.database.migrations import run_environment

run_environment(metadata)
