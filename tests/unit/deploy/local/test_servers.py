"""What becomes of a server that fell, where the machine is at its end."""

import threading
import time
from typing import cast

import pytest

from deploy.local import servers
from deploy.local.infra.server import Server
from deploy.local.servers import Kept


class Fallen:
    """A private server that fell, and runs once it is started."""

    source, url = "wheel", "postgresql://127.0.0.1/postgres"

    def __init__(self, *refusals: Exception) -> None:
        self.refusals, self.starts = list(refusals), 0

    @property
    def running(self) -> bool:
        return self.starts > len(self.refusals)

    def start(self, _: threading.Event) -> None:
        self.starts += 1
        if not self.running:
            raise self.refusals[self.starts - 1]

    def stop(self) -> None: ...


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "pause_s", lambda _: 0.0)


def said(kept: Kept, lines: int) -> list[str]:
    found: list[str] = []
    until = time.monotonic() + 10
    while len(found) < lines and time.monotonic() < until:
        if line := kept.keep_up():
            found.append(line)
    return found


def test_a_machine_that_refuses_a_thread_ends_no_keeping_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said and tried again, and then the server is started, once."""
    fallen, start, refused = Fallen(), threading.Thread.start, iter([True])

    def refusing(thread: threading.Thread) -> None:
        if next(refused, False):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refusing)
    kept = Kept("PostgreSQL", cast("Server", fallen))
    assert said(kept, 2) == [
        "PostgreSQL ended and could not be started again; that is tried again. can't start new thread",
        "PostgreSQL ended and was started again.",
    ]
    kept.stop()
    assert fallen.starts == 1


@pytest.mark.parametrize("refusal", [OSError("no memory"), RuntimeError("no thread")])
def test_whatever_a_start_runs_into_is_said_and_tried_again(refusal: Exception) -> None:
    """No memory, no file, no thread: that passes."""
    kept = Kept("PostgreSQL", cast("Server", Fallen(refusal)))
    assert said(kept, 2) == [
        f"PostgreSQL ended and could not be started again; that is tried again. {refusal}",
        "PostgreSQL ended and was started again.",
    ]
    kept.stop()
