"""Asking the desk about a tap, with an end: no word in time is no interception, because charging fails open."""

import asyncio

from services.preauth.gateway.house import House
from services.preauth.gateway.ports import Presented
from shared.runtime.log import get_logger

log = get_logger(__name__)


class Question:
    """One tap, asked about once."""

    __slots__ = ("_asking", "_house", "_loop")

    def __init__(self, house: House, tap: Presented) -> None:
        self._house = house
        self._loop = asyncio.get_running_loop()
        self._asking = self._loop.create_task(_decide(house, tap))

    async def answer(self) -> tuple[bool, bool]:
        """The desk's word, and whether it came in time. Whatever the desk does, this returns by the deadline."""
        meter, started, asking = self._house.meter, self._loop.time(), self._asking
        try:
            # Not `asyncio.timeout`: a desk that swallows its cancellation would be waited for.
            done, _ = await asyncio.wait({asking}, timeout=self._house.limits.deadline_s)
        except asyncio.CancelledError:
            asking.cancel()
            raise
        meter.asked(self._loop.time() - started)
        if not done:
            asking.cancel()
            asking.add_done_callback(_swallow)
            meter.taps["late"] += 1
            return False, False
        error = asking.exception() if not asking.cancelled() else asyncio.CancelledError()
        if error is not None:
            meter.taps["failed"] += 1
            log.warning(
                "A tap could not be decided and was passed on.", action="gateway.desk_failed", error=repr(error)
            )
            return False, False
        return asking.result(), True

    def give_up(self) -> None:
        """Let the answer be that there is none."""
        self._asking.cancel()


async def _decide(house: House, tap: Presented) -> bool:
    # Called in here, so that a desk that fails before it awaits anything fails like any other.
    return await house.desk.decide(tap)


def _swallow(asking: "asyncio.Task[bool]") -> None:
    """Nobody waits for this answer any more; an error in it is logged where it was made."""
    if not asking.cancelled():
        asking.exception()
