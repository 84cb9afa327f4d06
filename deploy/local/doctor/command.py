import asyncio
from pathlib import Path

from rich.console import Console

from deploy.local.doctor.examination import examine
from deploy.local.doctor.result import exit_code
from deploy.local.doctor.show import show
from deploy.local.doctor.target import find_target
from shared.runtime import log


def run_doctor(env_file: Path, *, as_json: bool) -> int:
    """Examine, show, and return 0 all is fine, 1 something is wrong or unknown, 3 nothing could be told.

    :raises InfraError: when the settings file cannot be read.
    """
    # What goes wrong is told as a result; the libraries' own lines about it would stand between the table's.
    log.configure("doctor", log_format="console", level="critical")
    results = asyncio.run(examine(find_target(env_file)))
    show(results, Console(), as_json=as_json)
    return exit_code(results)
