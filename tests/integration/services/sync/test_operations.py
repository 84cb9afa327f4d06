"""Operating chargers: once, with an outcome that is recorded."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
import websockets
from alembic import command

from deploy.demo.steve.faults import FaultName
from services.sync.operations import handlers, store
from services.sync.operations.handlers import OperationRunning
from shared.contracts.configuration import MASKED, told_parameters, told_response
from shared.contracts.problem import Invalid
from shared.contracts.request import ReplyEnvelope, RequestEnvelope
from shared.contracts.requests.sync import OperateCharger, OperationResult
from shared.database.engine import IDLE_IN_TRANSACTION_MS, Read
from shared.database.migrations import alembic_config
from tests.databases import OWNERS
from tests.integration.services.sync.conftest import ADA, Build, World, effect


class _Station:
    """A charger that answers each call with what it is told to; None: not at all; text: with an error."""

    def __init__(self, answer: dict[str, Any] | str | None) -> None:
        self.answer = answer
        self.calls: list[Any] = []

    async def run(self, socket: Any) -> None:  # noqa: ANN401
        async for frame in socket:
            kind, call_id, action, payload = json.loads(frame)
            self.calls.append((kind, action, payload))
            if isinstance(self.answer, str):
                await socket.send(json.dumps([4, call_id, "PropertyConstraintViolation", self.answer, {}]))
            elif self.answer is not None:
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


async def test_a_parameter_that_steve_would_not_read_is_refused(world: World, station: _Station) -> None:
    """What is mistyped is named, beside the names that there are, and nothing is begun; where a value is wrong, SteVe
    says so in its own words.
    """
    with pytest.raises(Invalid, match=r"resettype is no parameter of Reset\. It takes resetType;"):
        await operate(world, "Reset", resettype="Soft")
    with pytest.raises(Invalid, match=r"chargeBoxIdList, value are no parameters of ClearCache\. It takes none;"):
        await operate(world, chargeBoxIdList=["CP-2"], value="x")
    assert (station.calls, await world.rows("SELECT FROM sync.charger_operation")) == ([], [])
    result = await operate(world, "Reset", resetType="soft")
    assert result.outcome == "failed"
    assert (result.problem or "").startswith("SteVe answered 400: ")


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
    world.clock.advance(minutes=3)
    await world.rooms.operations.close_abandoned()
    [row] = await world.rows("SELECT outcome FROM sync.charger_operation")
    assert row.outcome == "unknown"
    assert (await operate(world)).outcome == "not_connected"


async def test_a_long_look_whether_it_is_the_right_steve_is_no_part_of_it(
    world: World, station: _Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operation is under way from when its charger is called: however long SteVe took to show who it is, it is not
    given up meanwhile, and its outcome is the charger's.
    """
    operations = world.rooms.operations

    async def long_look() -> None:
        world.clock.advance(minutes=10)
        assert await world.rows("SELECT FROM sync.charger_operation") == []

    async def then_look_for_abandoned(*given: Any, **named: Any) -> Any:  # noqa: ANN401
        await operations.close_abandoned()
        return await call(*given, **named)

    call = world.rooms.steve.operate
    monkeypatch.setattr(operations, "_same_steve", long_look)
    monkeypatch.setattr(world.rooms.steve, "operate", then_look_for_abandoned)
    assert (await operate(world)).outcome == "accepted"
    [finished] = await world.events("charger.operation_finished")
    assert finished.data["outcome"] == "accepted"


async def test_nothing_is_waited_for_longer_than_the_outcome_can_be_recorded(
    world: World, station: _Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A SteVe that does not show who it is calls no charger; one that takes too long over a call may have done it."""
    assert timedelta(seconds=handlers.SAME_STEVE_WITHIN_S + handlers.CALL_WITHIN_S) < min(
        handlers.ABANDONED_AFTER, timedelta(milliseconds=IDLE_IN_TRANSACTION_MS)
    )
    monkeypatch.setattr(handlers, "SAME_STEVE_WITHIN_S", 0.2)
    monkeypatch.setattr(handlers, "CALL_WITHIN_S", 0.2)
    with monkeypatch.context() as patched:
        patched.setattr(world.rooms.operations, "_same_steve", partial(asyncio.sleep, 5))
        result = await operate(world)
    assert (result.outcome, station.calls) == ("failed", [])
    assert "nothing was done" in (result.problem or "")
    world.steve.faults.set("slow", 600, path="/steve/api/v1/operations")
    result = await operate(world)
    assert result.outcome == "unknown"
    rows = await world.rows("SELECT outcome FROM sync.charger_operation ORDER BY requested_at")
    assert [row.outcome for row in rows] == ["failed", "unknown"]


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


SECRET = "pa55word-of-CP-1"


async def ask(world: World, key: str, operation: str, **parameters: Any) -> ReplyEnvelope:  # noqa: ANN401
    """As the bus does, under an idempotency key."""
    envelope = RequestEnvelope(
        name="operate_charger",
        actor=ADA.actor,
        correlationid=uuid4(),
        deadline=world.clock() + timedelta(seconds=35),
        idempotency_key=key,
        data={"charge_box_id": "CP-1", "operation": operation, "parameters": parameters},
    )
    reply = await world.service.dispatcher.answer(envelope)
    assert reply is not None
    return reply


async def kept(world: World) -> str:
    """All that is written down of operations: rows, results kept under keys, events."""
    rows = await world.rows("SELECT to_jsonb(o)::text FROM sync.charger_operation o")
    results = await world.rows("SELECT reply FROM sync.request_result")
    return f"{rows} {results} {await world.events()}"


@pytest.mark.parametrize(
    "answer", [{"status": "Accepted"}, f"{SECRET} is too short"], ids=["accepted", "quoted in an error"]
)
async def test_a_secret_goes_to_the_charger_and_nowhere_else(
    world: World,
    station: _Station,
    answer: dict[str, Any] | str,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The password that a charger is given stands in no row, event, answer or log, also where the charger quotes it;
    nor in the hash that tells requests apart, so that another password is no other request. What is harmless is told.
    """
    station.answer = answer
    form = {"keyType": "CUSTOM", "customConfKey": "AuthorizationKey"}
    first = await ask(world, "k", "ChangeConfiguration", **form, value=SECRET)
    assert first.value is not None
    assert first.value["outcome"] == ("failed" if isinstance(answer, str) else "accepted")
    assert await ask(world, "k", "ChangeConfiguration", **form, value="another") == first
    assert [call[2] for call in station.calls] == [{"key": "AuthorizationKey", "value": SECRET}]
    [requested] = await world.events("charger.operation_requested")
    assert requested.data["parameters"] == {**form, "value": MASKED}
    station.answer = {"status": "Accepted"}
    harmless = {"keyType": "PREDEFINED", "confKey": "HeartbeatInterval", "value": "300"}
    await ask(world, "harmless", "ChangeConfiguration", **harmless)
    assert (await world.events("charger.operation_requested"))[1].data["parameters"] == harmless
    other = (await ask(world, "harmless", "ChangeConfiguration", **{**harmless, "value": "60"})).problem
    assert other is not None
    assert other.code == "idempotency_key_reused"
    written = await kept(world) + caplog.text + "".join(capsys.readouterr()) + str(first)
    assert SECRET not in written
    assert "HeartbeatInterval" in written


async def test_one_secret_at_a_time(world: World, station: _Station) -> None:
    """While a key of unknown harm is being set, it is not set to something else: which of both holds, nobody knew."""
    world.steve.faults.set("slow", 500, path="/steve/api/v1/operations")
    form = {"keyType": "CUSTOM", "customConfKey": "WifiPassword"}
    both = [operate(world, "ChangeConfiguration", **form, value=value) for value in ("one", "two")]
    outcomes = await asyncio.gather(*both, return_exceptions=True)
    assert {type(one) for one in outcomes} == {OperationResult, OperationRunning}
    assert len(station.calls) == 1


async def test_what_a_charger_tells_of_its_configuration_is_not_kept(world: World, station: _Station) -> None:
    """Whoever asks sees the vendor's keys once; what is kept has the values of those that are known to be harmless."""
    station.answer = {
        "configurationKey": [
            {"key": "WifiPassword", "value": SECRET, "readonly": False},
            {"key": "heartbeatInterval", "value": "300", "readonly": False},
        ]
    }
    first, again = [await ask(world, "k", "GetConfiguration") for _ in range(2)]
    assert first.value is not None
    assert again.value is not None
    shown, repeated = (one["response"]["configurationKeys"] for one in (first.value, again.value))
    assert [one["value"] for one in shown] == [SECRET, "300"]
    assert [one["value"] for one in repeated] == [MASKED, "300"]
    assert SECRET not in await kept(world)


async def test_what_was_written_down_before_is_masked(world: World) -> None:
    """Rows of a release that kept passwords lose them at the update, and keep what is harmless."""
    config = alembic_config(OWNERS["sync"], world.admin_url)
    await asyncio.to_thread(command.downgrade, config, "0021")
    told = {"keyType": "PREDEFINED", "confKey": "heartbeatinterval", "value": "300"}
    rows: list[tuple[str, dict[str, Any], dict[str, Any] | None, str | None]] = [
        ("ChangeConfiguration", told, {"status": "Accepted"}, None),
        ("ChangeConfiguration", {"customConfKey": "AuthorizationKey", "value": SECRET}, {}, f"SteVe: {SECRET}"),
        ("ChangeConfiguration", {**told, "customConfKey": "Vendor", "value": SECRET, "pin": SECRET}, None, None),
        ("Reset", {"resetType": "Soft", "note": SECRET}, {}, f"The charger answered {SECRET}."),
        (
            "GetConfiguration",
            {"confKeyList": ["A"]},
            {"configurationKeys": [{"key": "A", "value": SECRET}, {"key": "HeartbeatInterval", "value": "300"}]},
            None,
        ),
        ("RemoteStartTransaction", {"idTag": "04A1", "connectorId": 1}, {"status": "Rejected"}, "It said why."),
    ]
    async with world.service.database.write() as tx:
        for number, (operation, parameters, response, problem) in enumerate(rows):
            values = {"parameters": json.dumps(parameters), "response": json.dumps(response) if response else None}
            await tx.execute(
                sa.text(
                    "INSERT INTO sync.charger_operation (operation_id, charge_box_id, operation, parameters,"
                    " requested_by, requested_at, response, problem) VALUES (gen_random_uuid(), 'CP-1', :operation,"
                    " cast(:parameters AS jsonb), 'ada', now() + :number * interval '1 s',"
                    " cast(:response AS jsonb), :problem)"
                ),
                {"operation": operation, "number": number, "problem": problem, **values},
            )
    await asyncio.to_thread(command.upgrade, config, "head")
    found = await world.rows("SELECT * FROM sync.charger_operation ORDER BY requested_at")
    assert [row.parameters for row in found] == [told_parameters(parameters) for _, parameters, _, _ in rows]
    assert [row.response for row in found] == [
        told_response(response) if response else None for _, _, response, _ in rows
    ]
    left_out = "What it said may quote a secret, and is left out."
    assert [row.problem for row in found] == [None, left_out, None, left_out, None, "It said why."]
    assert SECRET not in str(found)
