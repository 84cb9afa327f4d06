"""The tests with their asserts rewritten, once for all processes: each would do it for all files, beside the others."""

import multiprocessing
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from _pytest.assertion import rewrite

_jobs: list[Callable[[], None]] = []


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Before pytest-xdist starts its processes here."""
    if not session.config.getoption("numprocesses", None) or sys.dont_write_bytecode:
        return
    here = Path(__file__).parent
    files = [*here.rglob("test_*.py"), *here.rglob("conftest.py")]
    _jobs[:] = [
        partial(_rewrite, session.config, file) for file in files if rewrite._read_pyc(file, _place(file)) is None
    ]
    # Forked, they have the jobs already, which cannot be sent.
    with multiprocessing.get_context("fork").Pool() as pool:
        pool.map(_do, range(len(_jobs)), chunksize=4)


def _do(number: int) -> None:
    _jobs[number]()


def _place(file: Path) -> Path:
    return rewrite.get_cache_dir(file) / f"{file.stem}{rewrite.PYC_TAIL}"


def _rewrite(config: pytest.Config, file: Path) -> None:
    """As pytest does it where it imports the file."""
    place = _place(file)
    rewrite.try_makedirs(place.parent)
    source_hash, code = rewrite._rewrite_test(file, config)
    rewrite._write_pyc(config.stash[rewrite.assertstate_key], code, source_hash, place)
