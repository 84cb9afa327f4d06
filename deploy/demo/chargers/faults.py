"""What can be wrong with a charger, at start and at run time."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Literal, get_args

import msgspec

FaultName = Literal[
    "slow",  # value: milliseconds before each message is sent
    "drop_connection",  # value: after every how many messages the socket is cut, the answer unheard
    "garbage",  # value: before every how many messages a frame that is no OCPP is sent
    "clock_skew",  # value: seconds that the clock is ahead; negative: behind
    "meter_goes_back",  # value: Wh that the meter loses with each session
]
FAULT_NAMES: tuple[str, ...] = get_args(FaultName)
GARBAGE = ("{", "[]", '[2,"1"]', '[2,"2","Authorize","no object"]', '[9,"3",{}]', '[2,"4","MakeCoffee",{}]')


class Fault(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """One fault. `charge_box_id` restricts it to one charger (None: all)."""

    name: FaultName
    value: int
    charge_box_id: str | None = None


def parse_fault(text: str) -> Fault:
    """Read `NAME=VALUE` or `NAME=VALUE;charger=CP-1`. ValueError says what is wrong."""
    first, _, charger = text.partition(";charger=")
    name, _, value = first.partition("=")
    try:
        return msgspec.convert({"name": name, "value": int(value), "charge_box_id": charger or None}, Fault)
    except (ValueError, msgspec.ValidationError) as error:
        raise ValueError(f"{text!r} is no fault; write NAME=NUMBER, of {', '.join(FAULT_NAMES)}") from error


class Faults:
    """The faults that are switched on, as one charger has them."""

    def __init__(self, charge_box_id: str, active: list[Fault] | None = None) -> None:
        self._charge_box_id = charge_box_id
        self._sent = 0
        self.replace(active or [])

    def replace(self, faults: list[Fault]) -> None:
        """Have these, and no others; those of other chargers are left out."""
        self.active = [fault for fault in faults if fault.charge_box_id in {None, self._charge_box_id}]

    def value(self, name: FaultName) -> int:
        """0 when it is off."""
        return next((fault.value for fault in self.active if fault.name == name), 0)

    def clock(self, real: Callable[[], datetime]) -> Callable[[], datetime]:
        return lambda: real() + timedelta(seconds=self.value("clock_skew"))

    async def before(self, send: Callable[[str], Awaitable[None]]) -> None:
        """What happens before a message is sent."""
        self._sent += 1
        if slow_ms := self.value("slow"):
            await asyncio.sleep(slow_ms / 1000)
        if self._is_due("garbage"):
            await send(GARBAGE[self._sent % len(GARBAGE)])

    @property
    def cuts(self) -> bool:
        """Whether the connection is lost after the message that is sent now."""
        return self._is_due("drop_connection")

    def _is_due(self, name: FaultName) -> bool:
        every = self.value(name)
        return every > 0 and self._sent % every == 0
