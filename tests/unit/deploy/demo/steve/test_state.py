from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deploy.demo.steve.model import AuthorizationStatus, MeterValue, Stop, StopActor, Transaction
from deploy.demo.steve.seed import Seed, SeedCharger, SeedTag, apply_seed
from deploy.demo.steve.state import HasChildrenError, SteveState, TagExistsError, UnknownParentError
from deploy.demo.steve.store import FileStore

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def state() -> SteveState:
    return SteveState(clock=lambda: NOW)


def start(state: SteveState, id_tag: str = "04A1B2C3", start_wh: int = 1000) -> Transaction:
    return state.start_transaction(
        charge_box_id="CP-1", connector_id=1, id_tag=id_tag, start_at=NOW - HOUR, start_wh=start_wh
    )


def test_tags_are_compared_without_case(state: SteveState) -> None:
    """A tag is found in any spelling, and cannot be there twice."""
    tag = state.add_tag("04a1B2c3")
    assert state.tag(" 04A1b2C3 ") is tag
    with pytest.raises(TagExistsError):
        state.add_tag("04A1B2C3")


def test_an_unknown_tag_is_inserted_as_blocked(state: SteveState) -> None:
    """A start with an unknown tag makes a transaction and a blocked tag."""
    transaction = start(state, "NEW-1")
    tag = state.tag("NEW-1")
    assert transaction.active
    assert tag is not None
    assert tag.blocked
    assert state.verdict("NEW-1", is_start=False) is AuthorizationStatus.BLOCKED


def test_the_same_start_again_is_the_same_transaction(state: SteveState) -> None:
    """A station that lost the answer repeats its message, and gets the same id."""
    assert start(state).pk == start(state).pk
    assert start(state, start_wh=1001).pk != start(state).pk


def test_the_parents_state_does_not_matter(state: SteveState) -> None:
    """A blocked parent does not stop its child."""
    state.add_tag("PARENT", limit=0)
    state.add_tag("CHILD", parent_id_tag="parent")
    assert state.verdict("CHILD", is_start=True) is AuthorizationStatus.ACCEPTED


def test_a_parent_must_exist(state: SteveState) -> None:
    """Neither insert nor replace takes a parent that is not there."""
    with pytest.raises(UnknownParentError):
        state.add_tag("CHILD", parent_id_tag="NOBODY")
    tag = state.add_tag("CHILD")
    with pytest.raises(UnknownParentError):
        state.replace_tag(tag.pk, parent_id_tag="NOBODY", expiry=None, limit=1, note=None)


def test_deleting_a_tag_deletes_its_transactions(state: SteveState) -> None:
    """A delete takes the tag's transactions along, and leaves those of others."""
    mine, other = start(state, "MINE"), start(state, "OTHER")
    tag = state.tag("MINE")
    assert tag is not None
    state.remove_tag(tag.pk)
    assert set(state.transactions) == {other.pk}
    assert mine.pk not in state.transactions


def test_a_parent_cannot_be_deleted(state: SteveState) -> None:
    """A tag with children stays."""
    parent = state.add_tag("PARENT")
    state.add_tag("CHILD", parent_id_tag="PARENT")
    with pytest.raises(HasChildrenError):
        state.remove_tag(parent.pk)


def test_a_failed_stop_leaves_the_transaction_open(state: SteveState) -> None:
    """The meter going back is recorded aside, and the card stays at its limit."""
    state.add_tag("04A1B2C3")
    transaction = start(state)
    failed = state.stop_by_station(charge_box_id="CP-1", pk=transaction.pk, stop_at=NOW, stop_wh=5, reason="Local")
    assert failed is not None
    assert transaction.active
    assert state.verdict("04A1B2C3", is_start=True) is AuthorizationStatus.CONCURRENT_TX


def test_another_station_cannot_stop_it(state: SteveState) -> None:
    """A stop for a transaction of another station is a stop for an unknown one."""
    transaction = start(state)
    state.add_charger("CP-2")
    failed = state.stop_by_station(charge_box_id="CP-2", pk=transaction.pk, stop_at=NOW, stop_wh=2000, reason=None)
    assert failed is not None
    assert "unknown" in failed.why


def test_the_stations_own_stop_wins_over_a_manual_one(state: SteveState) -> None:
    """After a manual stop the station's stop is accepted, and is the one that counts."""
    transaction = start(state)
    state.add_meter_values(transaction.pk, [MeterValue(at=NOW, value="1400", unit="Wh")])
    state.stop_manually(transaction.pk)
    manual = transaction.stop
    state.stop_by_station(charge_box_id="CP-1", pk=transaction.pk, stop_at=NOW, stop_wh=2500, reason="Local")
    station = transaction.stop
    assert manual is not None
    assert station is not None
    assert (manual.actor, manual.value) == (StopActor.MANUAL, "1400")
    assert (station.actor, station.value) == (StopActor.STATION, "2500")


def test_a_manual_stop_of_a_stopped_transaction_changes_nothing(state: SteveState) -> None:
    """The station's stop stays when somebody presses stop afterwards."""
    transaction = start(state)
    state.stop_by_station(charge_box_id="CP-1", pk=transaction.pk, stop_at=NOW, stop_wh=2500, reason=None)
    state.stop_manually(transaction.pk)
    assert len(transaction.stops) == 1


def test_any_history_can_be_inserted(state: SteveState) -> None:
    """Impossible rows can be made, with gaps in the keys, for those who must cope with them."""
    state.skip_transaction_pks(41)
    made = state.add_transaction(
        charge_box_id="CP-9", id_tag="X", start_at=NOW, start_wh="", stop_at=NOW - HOUR, stop_wh="-5"
    )
    state.add_stop(made.pk, Stop(at=NOW, value="7", reason="Other", actor=StopActor.STATION))
    assert made.pk == 42
    assert [stop.value for stop in made.stops] == ["-5", "7"]


def test_a_hundred_thousand_transactions_are_made_in_seconds(state: SteveState) -> None:
    """A backlog for the sync can be made within a test; the keys ascend without gaps."""
    for number in range(100_000):
        state.add_transaction(
            charge_box_id=f"CP-{number % 50}",
            id_tag=f"TAG{number % 200}",
            start_at=NOW + timedelta(seconds=number),
            start_wh=0,
            stop_at=NOW + timedelta(seconds=number + 10),
            stop_wh=500,
        )
    assert len(state.transactions) == 100_000
    assert list(state.transactions)[-1] == 100_000


def test_everything_survives_a_restart(tmp_path: Path) -> None:
    """With a state file a new process knows the tags, chargers, transactions, readings and next keys."""
    file = tmp_path / "steve.sqlite"
    before = SteveState(FileStore(file), lambda: NOW)
    with before.batch():
        before.add_tag("PARENT")
        before.add_tag("CHILD", parent_id_tag="PARENT", expiry=NOW + HOUR, limit=3, note="n", user_pk=5)
        before.add_charger("CP-1", password="secret")
        stopped, still_open, deleted = start(before, "A"), start(before, "B"), start(before, "C")
    before.add_meter_values(stopped.pk, [MeterValue(at=NOW, value="1400", unit="Wh")])
    before.stop_by_station(charge_box_id="CP-1", pk=stopped.pk, stop_at=NOW, stop_wh=2000, reason="Local")
    before.stop_by_station(charge_box_id="CP-1", pk=still_open.pk, stop_at=NOW, stop_wh=1, reason=None)
    gone = before.tag("C")
    assert gone is not None
    before.remove_tag(gone.pk)
    before.close()

    after = SteveState(FileStore(file), lambda: NOW)
    assert (after.tags, after.chargers, after.transactions) == (
        before.tags,
        before.chargers,
        before.transactions,
    )
    assert after.meter_values == before.meter_values
    assert after.failed_stops == before.failed_stops
    assert after.verdict("B", is_start=False) is AuthorizationStatus.BLOCKED
    assert start(after, "D").pk == deleted.pk + 1
    after.close()


def test_a_seed_adds_what_is_missing(state: SteveState) -> None:
    """Seeding twice changes nothing, and a child may stand before its parent."""
    seed = Seed(
        tags=[SeedTag(id_tag="CHILD", parent_id_tag="PARENT"), SeedTag(id_tag="PARENT", limit=0)],
        chargers=[SeedCharger(charge_box_id="CP-1", password="secret")],
    )
    apply_seed(state, seed)
    apply_seed(state, seed)
    child = state.tag("CHILD")
    assert child is not None
    assert child.parent_id_tag == "PARENT"
    assert len(state.tags) == 2
    assert state.chargers["CP-1"].password == "secret"
