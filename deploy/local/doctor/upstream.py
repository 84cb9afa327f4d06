"""Asking SteVe and Lago with the code of the service that will, so that what is found is what it would meet."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from deploy.local.doctor.result import Result, follow
from services.sync.upstreams.breaker import Breaker
from services.sync.upstreams.errors import Reason, UpstreamError

TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Heard:
    """One call's outcome. `reason` is None when it went well; `explanation` follows the upstream's name."""

    reason: Reason | None = None
    explanation: str = ""

    @property
    def well(self) -> bool:
        return self.reason is None

    @property
    def reachable(self) -> bool:
        """Whether the upstream, or what stands before it, said something that is not about its own failure."""
        return self.reason not in {"unreachable", "timed_out", "server_error"}


WELL: Final = Heard()


async def heard(call: Callable[[], Awaitable[object]]) -> Heard:
    try:
        await call()
    except UpstreamError as error:
        return Heard(error.reason, error.explanation)
    return Heard()


def breaker() -> Breaker:
    """One for one question: the doctor asks once."""
    return Breaker(time.monotonic)


def ignore(_upstream: object, _error: object) -> None:
    """Nobody watches the doctor's calls."""


def unsendable(upstream: str, checks: Sequence[str], variable: str) -> list[Result]:
    """The results where a credential holds a character that no HTTP header can carry."""
    remedy = f"Copy {variable} again: it holds a character that cannot be part of one."
    return follow([one for one in checks if one.startswith(f"{upstream}.")], "It was not asked.", remedy)
