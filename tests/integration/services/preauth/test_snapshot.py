"""A preauth that is started beside a house that has long been charging: what it asks for before it follows events."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from services.preauth.decision.snapshot import Snapshot
from shared.contracts.requests.preauth import ArmPairing
from shared.contracts.requests.sync import Billing, SessionView
from shared.contracts.requests.sync_cards import CardSnapshot
from tests.integration.services.preauth.sync_double import SyncDouble
from tests.integration.services.preauth.world import Preauth

CP = "CP-7"


def a_card(id_tag: str, parent: str | None = None, version: int = 3) -> CardSnapshot:
    return CardSnapshot(
        id_tag=id_tag,
        card_id=uuid4(),
        subject_version=version,
        active=True,
        blocked=False,
        expiry=None,
        parent_id_tag=parent,
        in_steve=True,
        external_customer_id=None,
        external_subscription_id=None,
    )


def a_session(
    preauth: Preauth, pk: int, id_tag: str, *, ago: timedelta, stopped: bool = False, charger: str = CP
) -> SessionView:
    started_at = preauth.clock() - ago
    return SessionView(
        session=f"steve:{pk}",
        charge_box_id=charger,
        connector_id=1,
        id_tag=id_tag,
        started_at=started_at,
        stopped_at=started_at + timedelta(minutes=1) if stopped else None,
        start_wh=0,
        stop_wh=None,
        energy_wh=None,
        stop_reason=None,
        billing=Billing(state="pending"),
    )


async def test_a_sibling_that_was_charging_before_preauth_was_there_means_stop(preauth: Preauth) -> None:
    """With empty projections, the cards and open sessions are asked for: a tap of the group means stop, and only it."""
    sync = SyncDouble()
    sync.snapshot = [a_card("04A1", "META"), a_card("04A2", "META"), a_card("04B1", "OTHER")]
    sync.sessions = [
        a_session(preauth, 3, "04B1", ago=timedelta(minutes=5), stopped=True),
        a_session(preauth, 2, "04A1", ago=timedelta(minutes=10)),
        a_session(preauth, 1, "04B1", ago=timedelta(days=2)),
    ]
    await Snapshot(preauth.service.database, sync, clock=preauth.clock).take()
    await preauth.done(ArmPairing(charge_box_id=CP, purpose="find_card"))
    assert await preauth.tap("04A2", CP) is None
    [row] = preauth.rows("SELECT reason FROM tap")
    assert row == {"reason": "stops_group_session"}
    assert await preauth.tap("04B1", CP) == "BLOCKED"
    assert preauth.rows("SELECT transaction_id FROM open_session") == [{"transaction_id": 2}]


@pytest.mark.parametrize("year", [2000, 2099])
@pytest.mark.parametrize("others", [True, False])
async def test_a_session_at_a_charger_whose_clock_is_wrong_is_open_too(
    preauth: Preauth,
    year: int,
    others: bool,  # noqa: FBT001
) -> None:
    """Whatever year its charger thinks it is, a session that SteVe counted after others of this day is of this day;
    one that it counted before them was left open long ago. Where there are none, the newest of the days before tells,
    which another charger dated.
    """
    sync, off = SyncDouble(), preauth.clock() - datetime(year, 1, 1, tzinfo=UTC)
    left = a_session(preauth, 9, "04B1", ago=timedelta(days=400), charger="CP-8")
    closed = a_session(preauth, 10, "04C1", ago=timedelta(hours=2), stopped=True)
    before = a_session(preauth, 12, "04D1", ago=timedelta(days=2), stopped=True, charger="CP-9")
    known = [a_session(preauth, 20, "04A1", ago=off), left, closed if others else before]
    sync.sessions = sorted(known, key=lambda one: one.started_at)
    await Snapshot(preauth.service.database, sync, clock=preauth.clock).take()
    await preauth.done(ArmPairing(charge_box_id=CP, purpose="find_card"))
    assert await preauth.tap("04A1", CP) is None
    assert preauth.rows("SELECT reason FROM tap") == [{"reason": "stops_own_session"}]
    assert preauth.rows("SELECT transaction_id FROM open_session") == [{"transaction_id": 20}]


async def test_the_snapshot_is_taken_once_and_never_undoes_an_event(preauth: Preauth) -> None:
    """What was told meanwhile is newer than the snapshot; a later process finds that it was taken."""
    preauth.run("INSERT INTO card (id_tag, parent_id_tag, subject_version) VALUES ('04A1', 'NEW', 5)")
    preauth.run(
        "INSERT INTO open_session (charge_box_id, transaction_id, connector_id, id_tag, started_at, stopped_at)"
        " VALUES (%s, 2, 1, '04A1', now() - interval '10 minutes', now())",
        CP,
    )
    sync = SyncDouble()
    sync.snapshot = [a_card("04A1", "OLD", version=4)]
    sync.sessions = [a_session(preauth, 2, "04A1", ago=timedelta(minutes=10, seconds=5))]
    sync.silent = True
    snapshot = Snapshot(preauth.service.database, sync, clock=preauth.clock)
    await snapshot.take()
    assert preauth.rows("SELECT FROM snapshot") == []
    sync.silent = False
    await snapshot.take()
    assert preauth.rows("SELECT parent_id_tag FROM card") == [{"parent_id_tag": "NEW"}]
    assert preauth.rows("SELECT FROM open_session WHERE stopped_at IS NULL") == []
    asked = len(sync.asked)
    await snapshot.take()
    await Snapshot(preauth.service.database, sync, clock=preauth.clock).take()
    assert len(sync.asked) == asked
