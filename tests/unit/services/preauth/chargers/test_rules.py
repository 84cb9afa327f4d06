"""What each thing that passed changes of a charger, and whether tap-to-login can work there."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.preauth.chargers.rules import Charger, readiness
from services.preauth.chargers.seen import (
    Booted,
    Connected,
    Disconnected,
    Seen,
    SessionStarted,
    SessionStopped,
    StatusReported,
)
from shared.contracts.events.preauth import (
    ChargerConnected,
    ChargerDisconnected,
    ChargerSessionStarted,
    ChargerSessionStopped,
    ChargerStatusChanged,
)

AT = datetime(2026, 5, 1, 10, tzinfo=UTC)
# When it is written down.
NOW = AT + timedelta(hours=1)


def later(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


def connected(connection_id: UUID, at: datetime = AT) -> Connected:
    return Connected(charge_box_id="CP", at=at, connection_id=connection_id, subprotocol="ocpp1.6")


def gone(connection_id: UUID, at: datetime = AT, code: int = 1000) -> Disconnected:
    return Disconnected(charge_box_id="CP", at=at, connection_id=connection_id, code=code, reason="")


def status(state: str, at: datetime = AT, connector: int = 1) -> StatusReported:
    return StatusReported(
        charge_box_id="CP",
        at=at,
        connector_id=connector,
        status=state,
        error_code="NoError",
        vendor_error_code=None,
        info=None,
        reported_at=None,
    )


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), max_size=30))
def test_connected_and_disconnected_alternate(steps: list[tuple[bool, int]]) -> None:
    """Whatever order sockets come and go in, others hear connected and disconnected in turn, and the last is true."""
    ids = [uuid4() for _ in range(5)]
    charger = Charger("CP")
    told: list[type] = []
    open_now: set[int] = set()
    for opens, number in steps:
        events = charger.apply(connected(ids[number]) if opens else gone(ids[number]), NOW)
        (open_now.add if opens else open_now.discard)(number)
        told += [type(event) for event in events]
    assert told == [(ChargerConnected, ChargerDisconnected)[n % 2] for n in range(len(told))]
    assert (bool(told) and told[-1] is ChargerConnected) == bool(open_now)


def test_socket_that_opened_and_closed_in_one_batch_leaves_no_row() -> None:
    """What came and went between two writes is told, and nothing of it is left open."""
    charger, one = Charger("CP"), uuid4()
    events = [*charger.apply(connected(one), NOW), *charger.apply(gone(one, later(1), 1006), NOW)]
    assert [type(event) for event in events] == [ChargerConnected, ChargerDisconnected]
    assert not charger.opened
    assert not charger.closed
    assert charger.fields["close_code"] == 1006


def test_unknown_disconnect_tells_nothing() -> None:
    """A socket that is closed already, by whoever noticed first, is not closed again."""
    charger = Charger("CP")
    assert charger.apply(gone(uuid4()), NOW) == []
    assert charger.fields == {}


def test_status_is_told_when_it_changes() -> None:
    """A repeated status is not told, but known to be that new."""
    charger = Charger("CP")
    (first,) = charger.apply(status("Available"), NOW)
    assert isinstance(first, ChargerStatusChanged)
    assert first.before is None
    charger.touched_connectors.clear()
    assert charger.apply(status("Available", later(10)), NOW) == []
    assert charger.touched_connectors == {1}
    assert charger.connectors[1].seen_at == later(10)
    (changed,) = charger.apply(status("Faulted", later(71)), NOW)
    assert isinstance(changed, ChargerStatusChanged)
    assert changed.before is not None
    assert (changed.before.status, changed.after.status) == ("Available", "Faulted")


def start(transaction_id: int = 7, id_tag: str = "card", at: datetime = AT) -> SessionStarted:
    return SessionStarted(
        charge_box_id="CP",
        at=at,
        transaction_id=transaction_id,
        connector_id=2,
        id_tag=id_tag,
        verdict="Accepted",
        meter_start_wh=100,
        started_at=at,
    )


def stop(transaction_id: int = 7, at: datetime = AT, meter: int = 300) -> SessionStopped:
    return SessionStopped(
        charge_box_id="CP",
        at=at,
        transaction_id=transaction_id,
        id_tag=None,
        meter_stop_wh=meter,
        reason="Local",
        stopped_at=at,
    )


def test_session_is_told_once_and_its_stop_knows_its_start() -> None:
    """Repeating a start or a stop tells nothing new; the stop carries card and connector of the start."""
    charger = Charger("CP")
    (started,) = charger.apply(start(), NOW)
    assert isinstance(started, ChargerSessionStarted)
    assert started.id_tag == "CARD"
    assert charger.apply(start(), NOW) == []
    (stopped,) = charger.apply(stop(at=later(5)), NOW)
    assert isinstance(stopped, ChargerSessionStopped)
    assert (stopped.id_tag, stopped.connector_id, stopped.meter_stop_wh) == ("CARD", 2, 300)
    assert charger.apply(stop(at=later(5)), NOW) == []


def test_stop_without_a_seen_start_is_told_all_the_same() -> None:
    """A session that began before the gateway was there ends with what its stop says."""
    (stopped,) = Charger("CP").apply(stop(), NOW)
    assert isinstance(stopped, ChargerSessionStopped)
    assert (stopped.id_tag, stopped.connector_id) == (None, None)


def test_transaction_id_that_is_used_again_is_a_new_session() -> None:
    """A reinstalled SteVe counts from 1 again: another start under a known id replaces what was known."""
    charger = Charger("CP")
    charger.apply(start(), NOW)
    charger.apply(stop(at=later(5)), NOW)
    (again,) = charger.apply(start(id_tag="other"), NOW)
    assert isinstance(again, ChargerSessionStarted)
    assert charger.sessions[7].stopped_at is None


def boot(at: datetime = AT, firmware: str = "2") -> Booted:
    return Booted(
        charge_box_id="CP",
        at=at,
        registration="Accepted",
        vendor="V",
        model="M",
        serial_number=None,
        firmware_version=firmware,
    )


def test_boot_tells_what_the_charger_is() -> None:
    """A BootNotification replaces what was known of model and firmware."""
    charger = Charger("CP")
    assert charger.apply(boot(), NOW) == []
    assert charger.fields["firmware_version"] == "2"
    assert charger.fields["boot_at"] == AT


STEPS = st.sampled_from(["Available", "Faulted", "boot", "start", "stop"])


def passed(kinds: list[str]) -> list[Seen]:
    """One such thing a second, as a charger says them: a stop ends the oldest session that is open."""
    seen: list[Seen] = []
    opened: list[int] = []
    for number, kind in enumerate(kinds):
        at = later(number)
        match kind:
            case "boot":
                seen.append(boot(at, firmware=str(number)))
            case "start":
                opened.append(number)
                seen.append(start(number, at=at))
            case "stop" if opened:
                seen.append(stop(opened.pop(0), at, meter=number))
            case state:
                seen.append(status(state, at))
    return seen


def known_of(charger: Charger) -> tuple[object, ...]:
    states = {number: connector.state for number, connector in charger.connectors.items()}
    return states, charger.sessions, charger.fields


@given(st.lists(st.tuples(STEPS, st.booleans()), max_size=12), st.lists(st.booleans(), max_size=12))
def test_what_a_replica_tells_late_changes_nothing_newer(steps: list[tuple[str, bool]], turns: list[bool]) -> None:
    """A charger goes from one replica to another and back, and each writes down in its order what passed there, late
    as it may be: in the end the same is known as if each thing had been written at once.
    """
    seen = passed([kind for kind, _ in steps])
    in_order, in_turns = Charger("CP"), Charger("CP")
    for one in seen:
        in_order.apply(one, NOW)
    replicas = [
        [one for one, (_, second) in zip(seen, steps, strict=True) if second is which] for which in (False, True)
    ]
    turn = iter(turns)
    while any(replicas):
        mine = replicas[next(turn, False)] or replicas[0] or replicas[1]
        in_turns.apply(mine.pop(0), NOW)
    assert known_of(in_turns) == known_of(in_order)


@given(st.lists(st.tuples(st.sampled_from(["Available", "Faulted", "boot"]), st.integers(-3600, 3600)), max_size=12))
def test_what_was_dated_ahead_hides_nothing_that_comes_after(steps: list[tuple[str, int]]) -> None:
    """Whatever times other clocks gave to what is known, also ones that are still to come: what passes now is known."""
    charger = Charger("CP")
    for kind, off_s in steps:
        at = NOW + timedelta(seconds=off_s)
        charger.apply(boot(at, "old") if kind == "boot" else status(kind, at), NOW)
    (changed,) = charger.apply(status("Charging", NOW), NOW)
    assert isinstance(changed, ChargerStatusChanged)
    charger.apply(boot(NOW, "new"), NOW)
    known = charger.connectors[1]
    assert (known.state.status, known.seen_at) == ("Charging", NOW)
    assert (charger.fields["firmware_version"], charger.boot_at) == ("new", NOW)


def keys(**values: str | None) -> list[dict[str, Any]]:
    return [{"key": name, "value": value, "readonly": False} for name, value in values.items()]


@pytest.mark.parametrize(
    ("configuration", "ready", "named"),
    [
        pytest.param(keys(LocalPreAuthorize="false"), "yes", set(), id="asks about every card"),
        pytest.param(
            keys(LocalPreAuthorize="FALSE ", AuthorizationCacheEnabled="true"), "yes", set(), id="cache unused"
        ),
        pytest.param(
            keys(LocalPreAuthorize="true", AuthorizationCacheEnabled="true", LocalAuthListEnabled="false"),
            "no",
            {"LocalPreAuthorize", "AuthorizationCacheEnabled"},
            id="starts from its cache",
        ),
        pytest.param(
            keys(LocalPreAuthorize="True", LocalAuthListEnabled="1"),
            "no",
            {"LocalPreAuthorize", "LocalAuthListEnabled"},
            id="starts from its list",
        ),
        pytest.param(keys(LocalPreAuthorize="true"), "no", {"LocalPreAuthorize"}, id="the rest not told"),
        pytest.param(
            keys(LocalPreAuthorize="true", AuthorizationCacheEnabled="false", LocalAuthListEnabled="false"),
            "yes",
            set(),
            id="pre-authorizes, but knows nobody",
        ),
        pytest.param(
            keys(AuthorizationCacheEnabled="true"),
            "unknown",
            {"AuthorizationCacheEnabled"},
            id="cache, not told how used",
        ),
        pytest.param(keys(AuthorizationCacheEnabled="false"), "unknown", set(), id="list not told"),
        pytest.param(
            keys(AuthorizationCacheEnabled="false", LocalAuthListEnabled="false"), "yes", set(), id="nothing kept"
        ),
        pytest.param([], "unknown", set(), id="tells nothing"),
        pytest.param(keys(LocalPreAuthorize=None), "unknown", set(), id="no value"),
        pytest.param(keys(LocalPreAuthorize="maybe"), "unknown", set(), id="strange value"),
        pytest.param(keys(LocalAuthorizeOffline="true", LocalPreAuthorize="false"), "yes", set(), id="only offline"),
    ],
)
def test_readiness(configuration: list[dict[str, Any]], ready: str, named: set[str]) -> None:
    """Tap-to-login works where an online charger asks before it starts; else the keys in the way are named."""
    verdict = readiness(configuration)
    assert verdict.ready == ready
    assert set(verdict.keys) == named
    assert verdict.reason.endswith(".")


def test_what_is_only_relayed_is_not_ready() -> None:
    """A charger that speaks an older OCPP through the gateway is not intercepted there, whatever its configuration."""
    verdict = readiness(keys(LocalPreAuthorize="false"), "ocpp1.5")
    assert verdict.ready == "unknown"
    assert "ocpp1.5" in verdict.reason
    assert readiness(keys(LocalPreAuthorize="false"), "ocpp1.6").ready == "yes"
