"""Chargers with something wrong, at a SteVe that is fine."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from time import perf_counter

import pytest

from deploy.demo.chargers.charger import Charger
from deploy.demo.chargers.faults import parse_fault
from deploy.demo.steve.simulator import SteveSimulator
from tests.integration.demo_steve.support import settings_of, until


@pytest.fixture(autouse=True)
def card(steve: SteveSimulator) -> None:
    steve.state.add_tag("CARD")


def faulty(steve: SteveSimulator) -> Charger:
    """A charger that boots well; faults come with `faults.replace`."""
    return Charger(replace(settings_of(steve), answer_timeout_s=2))


async def test_a_slow_charger_takes_its_time(steve: SteveSimulator) -> None:
    """Each message leaves that much later."""
    async with faulty(steve) as station:
        station.faults.replace([parse_fault("slow=300")])
        began = perf_counter()
        assert (await station.authorize("CARD"))[0] == "Accepted"
        assert perf_counter() - began >= 0.3


async def test_a_cut_connection_leaves_the_answer_unheard(steve: SteveSimulator) -> None:
    """SteVe has carried the start out; the charger does not know, and sends it again when it is back."""
    async with faulty(steve) as station:
        station.faults.replace([parse_fault("drop_connection=1")])
        session = await station.start_session(1, "CARD")
        assert (session.transaction_id, len(steve.state.transactions)) == (None, 1)
        station.faults.replace([])
        await until(lambda: session.transaction_id is not None, what="the start's answer")
    assert session.transaction_id in steve.state.transactions


async def test_garbage_does_not_end_the_charger(steve: SteveSimulator) -> None:
    """Frames that are no OCPP cost a connection at most; in between it is a charger like others."""
    async with faulty(steve) as station:
        station.faults.replace([parse_fault("garbage=2")])
        told = [(await station.authorize("CARD"))[0] for _ in range(3)]
        assert "Accepted" in told
        station.faults.replace([])
        await until(lambda: station.online, what="the reconnect")
        assert (await station.tap(1, "CARD")).charging


async def test_a_wrong_clock_is_told(steve: SteveSimulator) -> None:
    """Starts and stops carry the station's time, right or wrong."""
    async with faulty(steve) as station:
        station.faults.replace([parse_fault("clock_skew=-86400")])
        await station.tap(1, "CARD")
    assert datetime.now(UTC) - steve.state.transactions[1].start_at > timedelta(hours=23)


async def test_a_meter_that_goes_back_starts_lower_than_it_stopped(steve: SteveSimulator) -> None:
    """The register loses energy between two sessions, as after a replaced meter."""
    async with faulty(steve) as station:
        station.faults.replace([parse_fault("meter_goes_back=700")])
        for _ in range(2):
            await station.tap(1, "CARD")
            await station.stop(1, energy_wh=500)
    assert [one.start_value for one in steve.state.transactions.values()] == ["300", "100"]
