"""Many chargers in one process, from one file.

{"chargers": [{"charge_box_id": "CP-1", "password": "secret", "connectors": 2, "honours_override": true,
               "configuration": {"LocalPreAuthorize": "false"}}]}
"""

import asyncio
import random
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
from websockets.exceptions import WebSocketException

from deploy.demo.chargers.charger import Charger
from deploy.demo.chargers.faults import Fault
from deploy.demo.chargers.session import Pace
from deploy.demo.chargers.settings import ChargerSettings, Happening
from deploy.demo.chargers.wire import NoAnswerError


class FleetCharger(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    charge_box_id: str
    password: str | None = None
    connectors: int = 2
    vendor: str = "ExpresSync"
    model: str = "Demo 22"
    firmware: str = "1.4.2"
    honours_override: bool = True
    refuses_from_cache: bool = False
    configuration: dict[str, str] = msgspec.field(default_factory=dict)
    meter_start_wh: int = 1_000


class FleetFile(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    chargers: list[FleetCharger]


class PaceDefaults(msgspec.Struct, kw_only=True, frozen=True):
    """How sessions run unless a tap says otherwise: an hour of charging in `3600 / factor` seconds."""

    power_w: int = 11_000
    behind_s: int = 3600
    factor: int = 720
    sample_s: float = 0.5


class UnknownChargerError(Exception):
    def __init__(self, charge_box_id: str, connector_id: int | None = None) -> None:
        self.charge_box_id = charge_box_id
        self.connector_id = connector_id
        what = charge_box_id if connector_id is None else f"connector {connector_id} of {charge_box_id}"
        super().__init__(f"{what} is not part of this fleet")


def read_fleet(file: Path) -> FleetFile:
    """ValueError with the file's name when it is not such a file."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=FleetFile)
    except msgspec.DecodeError as error:
        raise ValueError(f"{file} cannot be read as a fleet: {error}") from error


class Fleet:
    def __init__(
        self,
        ocpp_url: str,
        fleet: FleetFile,
        report: Callable[[Happening], None],
        pace: PaceDefaults | None = None,
        *,
        spread_s: float = 1.0,
        faults: list[Fault] | None = None,
    ) -> None:
        """`spread_s`: the first connections are spread over that many seconds."""
        self._report = report
        self._pace = pace or PaceDefaults()
        self._spread_s = spread_s
        self.chargers = {
            one.charge_box_id: Charger(
                ChargerSettings(
                    ocpp_url=ocpp_url,
                    report=report,
                    heartbeats=True,
                    faults=faults or [],
                    **msgspec.structs.asdict(one),
                )
            )
            for one in fleet.chargers
        }

    async def run(self) -> None:
        """Connect all, and keep trying for those that are refused; until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for charger in self.chargers.values():
                    group.create_task(self._start(charger))
            await asyncio.Event().wait()
        finally:
            await asyncio.gather(*(one.close() for one in self.chargers.values()), return_exceptions=True)

    def connector_of(self, charge_box_id: str, connector_id: int) -> Charger:
        """The charger, after a check that it has the connector. UnknownChargerError."""
        charger = self.charger(charge_box_id)
        if connector_id not in charger.connectors:
            raise UnknownChargerError(charge_box_id, connector_id)
        return charger

    def charger(self, charge_box_id: str) -> Charger:
        if charge_box_id not in self.chargers:
            raise UnknownChargerError(charge_box_id)
        return self.chargers[charge_box_id]

    def pace(self, *, energy_wh: int | None, power_w: int | None, behind_s: int | None, factor: int | None) -> Pace:
        """A session's pace; None takes the fleet's.

        When only the energy is given, the power is such that the session ends when the station's clock has
        caught up: 12,400 Wh over an hour are 12.4 kW.
        """
        behind = self._pace.behind_s if behind_s is None else behind_s
        if power_w is None and energy_wh is not None and behind > 0:
            power_w = -(-energy_wh * 3600 // behind)
        return Pace(
            power_w=self._pace.power_w if power_w is None else power_w,
            behind=timedelta(seconds=behind),
            factor=self._pace.factor if factor is None else factor,
            energy_wh=energy_wh,
            sample_s=self._pace.sample_s,
        )

    def set_faults(self, faults: list[Fault]) -> None:
        """Have these faults, and no others."""
        for charger in self.chargers.values():
            charger.faults.replace(faults)

    def state(self) -> dict[str, Any]:
        return {"chargers": [one.state() for one in self.chargers.values()]}

    async def _start(self, charger: Charger) -> None:
        await asyncio.sleep(random.uniform(0, self._spread_s))
        wait_s = charger.settings.reconnect_min_s
        while True:
            try:
                await charger.start()
            except (OSError, WebSocketException, NoAnswerError) as error:
                charger.report("refused", why=str(error))
                await asyncio.sleep(wait_s * random.uniform(0.5, 1.5))
                wait_s = min(wait_s * 2, charger.settings.reconnect_max_s)
            else:
                return
