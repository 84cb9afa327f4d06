"""Ports for the programs that tests start."""

import fcntl
import functools
import itertools
import os
import tempfile
from pathlib import Path

from deploy.local.infra.folder import highest_port, port_is_free

PER_PROCESS = 500
PROCESSES = 20


def free_port() -> int:
    """A free loopback port that neither the launcher nor another process of tests chooses, each one in its turn.

    A test tells a program its port, and until that listens, anyone who chose among free ones could take it.
    """
    block = _block()
    for number in _numbers:
        port = highest_port() - block * PER_PROCESS - number % PER_PROCESS
        if port_is_free(port):
            return port
    raise AssertionError


_numbers = itertools.count()


@functools.cache
def _block() -> int:
    """The number of this process's ports, which are its own until it ends."""
    for number in range(PROCESSES):
        lock = os.open(Path(tempfile.gettempdir(), f"expressync-test-ports-{number}"), os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            return number
    raise RuntimeError(f"More than {PROCESSES} processes of tests run on this machine.")
