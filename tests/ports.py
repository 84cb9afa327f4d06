"""Ports for the programs that tests start."""

import itertools
import os

from deploy.local.infra.folder import highest_port, port_is_free

PER_PROCESS = 1000
# pytest-xdist numbers its processes: gw0, gw1, ...
_number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_numbers = itertools.count()


def free_port() -> int:
    """A free loopback port that neither the launcher nor another process of the tests chooses, each one in its turn.

    A test tells a program its port, and until that listens, anyone who chose among free ones could take it.
    """
    while True:
        port = highest_port() - _number * PER_PROCESS - next(_numbers) % PER_PROCESS
        if port_is_free(port):
            return port
