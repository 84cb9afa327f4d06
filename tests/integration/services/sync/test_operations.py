"""Operating chargers: once, with an outcome that is recorded."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

import pytest
import sqlalchemy as sa
import websockets

from deploy.demo.steve.faults import FaultName
from services.sync.operations import store
from services.sync.operations.handlers import OperationRunning
from shared.contracts.requests.sync import OperateCharger, OperationResult
from shared.database.engine import Read
from tests.integration.services.sync.conftest import ADA, Build, World, effect


class _Station:
    """A charger that answers each call with what it is told to; None: not at all."""

    def __init__(self, answer: dict[str, Any] | None) -> None:
        self.answer = answer
        self.calls: list[Any] = []

    async def run(self, socket: Any) -> None:  # noqa: ANN401
        async for frame in socket:
            kind, call_id, action, payload = json.loads(frame)
            self.calls.append((kind, action, payload))
            if self.answer is not None:
                await socket.send(json.dumps([3, call_id, self.answer]))


@pytest.fixture
async def station(world: World) -> AsyncIterator[_Station]:
    world.steve.state.add_charger("CP-1")
    station = _Station({"status": "Accepted"})
    async with websockets.connect(f"{world.steve.ocpp_url}/CP-1", subprotocols=["ocpp1.6"]) as socket:  # type: ignore[list-item]
        serving = asyncio.create_task(station.run(socket))
        yield station
        serving.cancel()


async def operate(world: World, operation: Any = "ClearCache", **parameters: Any) -> OperationResult:  # noqa: ANN401
    request = OperateCharger(charge_box_id="CP-1", operation=operation, parameters=parameters)
    async with world.service.database.write() as tx:
        return await world.rooms.operations.operate_charger(tx, request, ADA, effect(world))


async def test_an_accepted_operation_is_told_twice(world: World, station: _Station) -> None:
    """The charger is called, and both the request and its outcome become events."""
    result = await operate(world)
    assert (result.outcome, result.response) == ("accepted", {"status": "Accepted"})
    assert [call[1] for call in station.calls] == ["ClearCache"]
    told = await world.events("charger.operation_requested", "charger.operation_finished")
    assert [one.type for one in told] == ["charger.operation_requested", "charger.operation_finished"]
    assert told[1].data["outcome"] == "accepted"
    assert [one.causationid for one in told] == [None, told[0].id]
    assert {one.correlationid for one in told} == {ADA.correlation_id}


async def test_configuration_comes_back_as_steve_shows_it(world: World, station: _Station) -> None:
    """GetConfiguration answers the charger's keys."""
    station.answer = {"configurationKey": [{"key": "LocalPreAuthorize", "value": "true", "readonly": False}]}
    result = await operate(world, "GetConfiguration")
    assert result.outcome == "accepted"
    assert result.response["configurationKeys"][0]["value"] == "true"


async def test_a_refusal_is_the_chargers(world: World, station: _Station) -> None:
    """What the charger rejects is rejected, with its word."""
    station.answer = {"status": "Rejected"}
    result = await operate(world, "RemoteStopTransaction", transactionId=7)
    assert result.outcome == "rejected"
    assert result.problem == "The charger answered Rejected."


async def test_a_charger_that_is_away_is_not_connected(world: World) -> None:
    """SteVe knows no connection: nothing was done, and it is said so."""
    assert (await operate(world)).outcome == "not_connected"


async def test_an_answer_that_was_lost_is_unknown_and_not_asked_for_again(world: World, station: _Station) -> None:
    """When SteVe carried it out and its answer was lost, the outcome is unknown, and nobody repeats the call."""
    world.steve.faults.set("drop_after_commit", path="/steve/api/v1/operations", times=1)
    result = await operate(world, "RemoteStartTransaction", idTag="A")
    assert result.outcome == "unknown"
    assert len(station.calls) == 1


@pytest.mark.parametrize("fault", ["garbled_after_commit", "undecodable_after_commit", "empty_after_commit"])
async def test_an_answer_that_cannot_be_read_says_nothing_of_what_was_done(
    world: World, station: _Station, fault: FaultName
) -> None:
    """The charger did it, and a page, broken gzip, or nothing, came instead of SteVe's answer: unknown, and not
    "nothing was done".
    """
    world.steve.faults.set(fault, path="/steve/api/v1/operations", times=1)
    result = await operate(world, "RemoteStartTransaction", idTag="A")
    assert result.outcome == "unknown"
    assert len(station.calls) == 1


@pytest.mark.parametrize("fault", ["wrong_credentials", "forbidden", "login_redirect"])
async def test_a_call_that_was_turned_away_was_not_done(world: World, station: _Station, fault: FaultName) -> None:
    """Whoever does not let us in has called no charger."""
    world.steve.faults.set(fault, path="/steve/api/v1/operations", times=1)
    result = await operate(world)
    assert result.outcome == "failed"
    assert "nothing was done" in (result.problem or "")
    assert station.calls == []


async def test_the_same_operation_is_not_begun_twice(build_world: Build) -> None:
    """While one runs, the same one is refused; one whose process died becomes unknown after a while."""
    world = await build_world()
    await world.rows("SELECT 1")
    async with world.service.database.write() as tx:
        await tx.execute(
            sa.text(
                "INSERT INTO sync.charger_operation (operation_id, charge_box_id, operation, parameters, requested_by,"
                " requested_at) VALUES (gen_random_uuid(), 'CP-1', 'ClearCache', '{}', 'ada', now())"
            )
        )
    with pytest.raises(OperationRunning):
        await operate(world)
    world.clock.advance(minutes=2)
    await world.rooms.operations.close_abandoned()
    [row] = await world.rows("SELECT outcome FROM sync.charger_operation")
    assert row.outcome == "unknown"
    assert (await operate(world)).outcome == "not_connected"


async def test_two_who_ask_for_the_same_at_once_call_the_charger_once(
    world: World, station: _Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever looks second whether it is under way finds the first one's, and is refused."""
    look, looked, both = store.running, list[int](), asyncio.Event()

    async def running(tx: Read, charge_box_id: str, name: str, parameters: Mapping[str, Any]) -> datetime | None:
        found = await look(tx, charge_box_id, name, parameters)
        looked.append(1)
        if len(looked) == 2:
            both.set()
        with suppress(TimeoutError):
            await asyncio.wait_for(both.wait(), 0.3)
        return found

    monkeypatch.setattr(store, "running", running)
    world.steve.faults.set("slow", 500, path="/steve/api/v1/operations")
    outcomes = await asyncio.gather(operate(world), operate(world), return_exceptions=True)
    assert {type(one) for one in outcomes} == {OperationResult, OperationRunning}
    assert [call[1] for call in station.calls] == ["ClearCache"]
