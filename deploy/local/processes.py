"""The services' processes: each under a guard, so that none outlives the launcher, each restarted when it falls."""

import contextlib
import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from deploy.local.home import root
from deploy.local.infra.errors import InfraError
from deploy.local.infra.guarded import Command, Guarded, tail

GRACE_S: Final = 20.0
RESTART_AFTER_S: Final = 1.0
LONGEST_PAUSE_S: Final = 30.0
BAD_CONFIGURATION: Final = 2


def pause_s(falls: int) -> float:
    """Between two starts of what has fallen so often."""
    # The exponent is limited too: after a thousand falls the power would be no float any more.
    return min(RESTART_AFTER_S * 2.0 ** min(falls, 10), LONGEST_PAUSE_S)


@dataclass(slots=True)
class Program:
    """A Python program of ours: `python -m <module> <arguments>`, its log, and how to tell that it is ready."""

    name: str
    module: str
    environment: Mapping[str, str]
    log: Path
    ready_url: str | None = None
    arguments: tuple[str, ...] = ()
    process: Guarded | None = None
    falls: int = field(default=0)
    started_at: float = field(default=0.0)

    def start(self) -> None:
        self.started_at = time.monotonic()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        argv = [sys.executable, "-m", self.module, *self.arguments]
        command = Command(argv, self.environment, self.log, root())
        self.process = Guarded([command], grace_s=GRACE_S)

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.alive

    def stop(self) -> None:
        if self.process is not None:
            self.process.stop()
            self.process = None

    def readiness(self) -> dict[str, str]:
        """What /readyz says, check by check ("ok" or a sentence); one entry "process" where it does not answer."""
        if not self.alive:
            return {"process": "is not running"}
        if self.ready_url is None:
            return {}
        try:
            with urllib.request.urlopen(self.ready_url, timeout=3) as answer:  # noqa: S310 - our own loopback address
                body = answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return _checks(error.read())
        except OSError as error:
            return {"process": f"does not answer yet ({error})"}
        return _checks(body)

    def keep_up(self) -> str | None:
        """Restart it if it fell, after a growing pause; returns a sentence when something happened.

        :raises InfraError: when it refuses its configuration, which no restart will change.
        """
        if self.alive or self.process is None:
            return None
        if time.monotonic() - self.started_at < pause_s(self.falls):
            return None
        code = self.process.stop()
        if code == BAD_CONFIGURATION:
            raise InfraError(f"{self.name} refuses to start.", tail(self.log, 8), "Correct .env and start again.")
        self.falls += 1
        try:
            self.start()
        except (InfraError, OSError) as error:
            # No memory for another process, say: that passes, and ends no stack.
            why = error.why if isinstance(error, InfraError) else error
            return f"{self.name} ended with exit code {code} and could not be started; that is tried again. {why}"
        return f"{self.name} ended with exit code {code} and was started again; its log is {self.log}"


def _checks(body: bytes) -> dict[str, str]:
    """The checks in an answer of /readyz."""
    try:
        found = json.loads(body)["checks"]
    except (ValueError, KeyError, TypeError):
        # Until a service that cannot have its port has ended, whoever has the port answers in its place.
        return {"process": "does not answer yet (another program has its port)"}
    return {str(name): str(why) for name, why in found.items()}


def stop_all(programs: list[Program]) -> None:
    """Stop programs, the last started first; one that fails to stop does not keep the others up."""
    for program in reversed(programs):
        with contextlib.suppress(OSError):
            program.stop()
