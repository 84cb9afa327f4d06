"""Whether chargers can do tap-to-login, and what is known of those that do not come through the gateway."""

import asyncio
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import pytest

from services.preauth.chargers import store, views
from services.preauth.chargers.handlers import Chargers
from services.preauth.chargers.jobs import Newcomers
from services.preauth.chargers.tables import charger_session
from services.preauth.tables import tap
from shared.contracts.event import Envelope
from shared.contracts.events.sync import ChargerOperationFinished
from shared.contracts.requests.preauth import ChargerView, GetCharger
from shared.contracts.requests.sync import OperationOutcome
from tests.databases import TestDatabase
from tests.integration.services.preauth.chargers.support import (
    Socket,
    Sync,
    Writing,
    connect,
    pre_authorize,
    readiness_of,
    started_event,
)
from tests.integration.services.preauth.gateway.support import until
from tests.integration.services.preauth.world import cause
from tests.waiting import until as waited


async def test_readiness_is_asked_once_and_told_when_it_changes(one: Writing) -> None:
    """A connected charger is asked for its configuration; the answer is kept for a day, and a change is an event."""
    await connect(one, "CP-1")
    sync = Sync(configuration=pre_authorize("true"))
    job = readiness_of(one, sync)
    await job.ask()
    await job.ask()
    assert [(one.operation, one.charge_box_id) for one in sync.asked] == [("GetConfiguration", "CP-1")]
    (row,) = await one.rows("SELECT ready, ready_keys, ready_reason, online FROM charger")
    assert (row["ready"], row["ready_keys"], row["online"]) == ("no", {"LocalPreAuthorize": "true"}, True)
    assert await one.told("charger.readiness_changed") == 1
    one.clock.ahead = timedelta(hours=25)
    await job.ask()
    assert await one.told("charger.readiness_changed") == 1
    one.clock.ahead = timedelta(hours=50)
    sync.configuration = pre_authorize("false")
    await job.ask()
    assert await one.told("charger.readiness_changed") == 2
    async with one.database.read() as tx:
        view = await views.view(tx, "CP-1")
    assert view is not None
    assert view.readiness.ready == "yes"
    assert view.readiness.checked_at is not None


@pytest.mark.parametrize("outcome", ["rejected", "not_connected", "failed", "unknown", None])
async def test_charger_that_does_not_tell_stays_unknown(one: Writing, outcome: OperationOutcome | None) -> None:
    """No answer, or a refusal, is unknown and not a no; the charger is left alone for a while."""
    await connect(one, "CP-1")
    sync = Sync(outcome=outcome or "failed", answers=outcome is not None)
    job = readiness_of(one, sync)
    await job.ask()
    await job.ask()
    assert len(sync.asked) == 1
    (row,) = await one.rows("SELECT ready, ready_checked_at, online FROM charger")
    assert (row["ready"], row["ready_checked_at"]) == ("unknown", None)
    assert row["online"] == {"rejected": True, "not_connected": False}.get(outcome or "")
    one.clock.ahead = timedelta(minutes=16)
    await job.ask()
    assert len(sync.asked) == 2


async def test_two_replicas_do_not_ask_the_same_charger(one: Writing) -> None:
    """Who is asked is claimed first: five replicas ask ten chargers ten times."""
    names = [f"CP-{number}" for number in range(10)]
    await connect(one, *names)
    sync = Sync(configuration=pre_authorize("false"))
    await asyncio.gather(*(readiness_of(one, sync).ask() for _ in range(5)))
    assert sorted(each.charge_box_id for each in sync.asked) == names


async def test_without_a_broker_nobody_is_claimed(one: Writing) -> None:
    """While sync cannot be reached no charger loses its turn, and a stop does not wait for an answer."""
    await connect(one, "CP-1")
    sync = Sync(connected=False)
    await readiness_of(one, sync).ask()
    assert await one.rows("SELECT FROM charger WHERE ready_asked_at IS NULL")
    sync.connected, sync.hang, stop = True, asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(readiness_of(one, sync).run(stop))
    await until(lambda: bool(sync.asked))
    stop.set()
    async with asyncio.timeout(1):
        await running


async def test_charger_behind_a_hook_is_known_from_its_taps(one: Writing, database: TestDatabase) -> None:
    """A charger that never came through the gateway is listed from its taps; whether it is online is asked."""
    async with one.database.write() as tx:
        await tx.exec_driver_sql(
            "INSERT INTO tap (received_at, tap_id, charge_box_id, id_tag, kind, via, reason)"
            " VALUES (now(), gen_random_uuid(), 'HOOKED', 'A', 'authorize', 'hook', 'nothing_armed')"
        )
    await Newcomers(one.database, clock=one.clock).note_tapped()
    async with one.database.read() as tx:
        view = await views.view(tx, "HOOKED")
    assert view is not None
    assert (view.via_gateway, view.connected) == (False, None)
    await readiness_of(one, Sync(outcome="not_connected")).ask()
    async with one.database.read() as tx:
        view = await views.view(tx, "HOOKED")
    assert view is not None
    assert view.connected is False
    assert view.connected_as_of is not None


async def tapped(one: Writing, charge_box_id: str, **columns: object) -> None:
    values = {"kind": "authorize", "via": "hook", "reason": "nothing_armed", "id_tag": "A", **columns}
    async with one.database.write() as tx:
        row = {"received_at": one.clock(), "tap_id": uuid4(), "charge_box_id": charge_box_id, **values}
        await tx.execute(tap.insert().values(row))
    await Newcomers(one.database, clock=one.clock).note_tapped()


async def started(one: Writing, charge_box_id: str, transaction_id: int) -> None:
    """SteVe's record of it, told just now."""
    event = started_event(charge_box_id, transaction_id, one.clock())
    async with one.database.write() as tx:
        envelope = cast("Envelope", SimpleNamespace(time=one.clock()))
        await Newcomers(one.database, clock=one.clock).session_started(tx, event, envelope)


@pytest.mark.parametrize("how", ["tap", "session"])
async def test_a_charger_that_left_the_gateway_is_asked_again(one: Writing, how: str) -> None:
    """Now it goes to SteVe directly: nobody says any more that it is not connected, until it comes back."""
    socket = Socket("CP-1")
    one.observer.saw(socket.came())
    await waited(lambda: one.told("charger.connected"))

    async def shown() -> tuple[bool, bool | None]:
        async with one.database.read() as tx:
            view = await views.view(tx, "CP-1")
        assert view is not None
        return view.via_gateway, view.connected

    async def heard(transaction_id: int, **columns: object) -> None:
        await (tapped(one, "CP-1", **columns) if how == "tap" else started(one, "CP-1", transaction_id))

    async with one.database.write() as tx:
        # It passed the gateway, and SteVe tells of it when the charger has gone.
        row = {"charge_box_id": "CP-1", "transaction_id": 1, "seen_at": one.clock()}
        await tx.execute(charger_session.insert().values(row))
    await heard(2)
    assert await shown() == (True, True)
    one.observer.saw(socket.went())
    await waited(lambda: one.told("charger.disconnected"))
    await heard(1, via="gateway", also_via="hook")
    assert await shown() == (True, False)
    await heard(3)
    assert await shown() == (False, None)
    one.observer.saw(Socket("CP-1").came(one.clock()))
    await waited(lambda: one.rows("SELECT FROM charger WHERE via_gateway"))
    assert await shown() == (True, True)


async def test_a_charger_whose_configuration_was_changed_is_asked_anew(one: Writing) -> None:
    """After ChangeConfiguration it is asked at once, and where it takes no cards also when somebody looks at it."""
    await connect(one, "CP-1")
    sync = Sync(configuration=pre_authorize("true"))
    job = readiness_of(one, sync)
    handlers = Chargers(one.database, job.look)
    for operation, asked in (("Reset", 1), ("ChangeConfiguration", 2)):
        await job.ask()
        done = ChargerOperationFinished(
            operation_id=uuid4(),
            charge_box_id="CP-1",
            operation=operation,
            parameters={},
            outcome="accepted",
            problem=None,
        )
        async with one.database.write() as tx:
            await job.operation_finished(tx, done, cast("Envelope", None))
        await job.ask()
        assert len(sync.asked) == asked
    assert (await handlers.get_charger(GetCharger(charge_box_id="CP-1"), cause())).readiness.ready == "no"
    one.clock.ahead = timedelta(seconds=61)
    sync.configuration = pre_authorize("false")
    await job.ask()
    assert (await handlers.get_charger(GetCharger(charge_box_id="CP-1"), cause())).readiness.ready == "yes"
    one.clock.ahead = timedelta(seconds=122)
    await job.ask()
    assert len(sync.asked) == 3


async def test_looking_at_a_charger_behind_a_hook_asks_anew(one: Writing) -> None:
    """Whoever looks is told at once what is known, and how old it is; where that is a minute, it is then asked for."""
    async with one.database.write() as tx:
        await store.note(tx, "HOOKED", one.clock(), one.clock())
    sync, stop = Sync(outcome="rejected"), asyncio.Event()
    job = readiness_of(one, sync)
    handlers = Chargers(one.database, job.look)
    running = asyncio.create_task(job.run(stop))

    async def look() -> ChargerView:
        return await handlers.get_charger(GetCharger(charge_box_id="HOOKED"), cause())

    async def online(state: str) -> list[Any]:
        return await one.rows(f"SELECT FROM charger WHERE online IS {state}")

    await waited(lambda: online("true"), within_s=10)
    sync.outcome = "not_connected"
    first, second = await look(), await look()
    assert (first.connected, second.connected) == (True, True)
    one.clock.ahead = timedelta(seconds=61)
    third = await look()
    assert (third.connected, third.connected_as_of) == (True, first.connected_as_of)
    # Long before the readiness of itself is due again.
    await waited(lambda: online("false"), within_s=2)
    fourth = await look()
    assert fourth.connected is False
    assert fourth.connected_as_of is not None
    assert fourth.connected_as_of - (first.connected_as_of or fourth.connected_as_of) > timedelta(seconds=60)
    assert len(sync.asked) == 2
    stop.set()
    async with asyncio.timeout(1):
        await running
