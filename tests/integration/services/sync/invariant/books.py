"""What Lago has, and whether sync's own books say the same in the end."""

from collections import Counter
from decimal import Decimal
from typing import Final

from deploy.demo.lago.model import Event
from tests.integration.services.sync.conftest import World
from tests.integration.services.sync.invariant.model import Model

FOREIGN: Final = "somebody_elses"


def _pk(event: Event) -> int:
    return int(event.transaction_id.split(":")[2])


def _wh(event: Event) -> int:
    return int(Decimal(event.properties["kwh"]) * 1000)


def is_foreign(event: Event) -> bool:
    """Somebody else's, of another metric."""
    return event.code == FOREIGN


def of_session(world: World, pk: int) -> int:
    """Wh that Lago has of a session, whoever is billed."""
    return sum(_wh(one) for one in world.lago.state.events if _pk(one) == pk and not is_foreign(one))


def of_subscription(world: World, subscription: str) -> dict[int, int]:
    """Wh that Lago has under a subscription, by session."""
    found: Counter[int] = Counter()
    for one in world.lago.state.events:
        if one.external_subscription_id == subscription and not is_foreign(one):
            found[_pk(one)] += _wh(one)
    return dict(found)


async def check(world: World, model: Model) -> None:
    """Lago counts each Wh once and for whom it was used; chains are whole, nothing waits, each entry was told once."""
    expected = dict.fromkeys(model.subscriptions, 0)
    verdicts = {pk: model.verdict(one) for pk, one in model.sessions.items()}
    for pk, verdict in verdicts.items():
        owner = model.sessions[pk].owner
        if verdict.wh and owner is not None:
            expected[owner] += verdict.wh
    assert {name: world.counted(name)[0] for name in expected} == expected
    stored = list(world.lago.state.events)
    assert all(world.lago.state.counts(one) for one in stored)
    assert len({one.transaction_id for one in stored}) == len(stored)

    rows = await world.rows("SELECT * FROM sync.session")
    assert {row.transaction_pk for row in rows} == set(model.sessions)
    for row in rows:
        reasons = verdicts[row.transaction_pk].reasons
        reason = row.hold_reason or ("ignored" if row.billing == "ignored" else None)
        assert reason in (reasons or {None}), row
        assert reasons or row.billing == "counted", row
    entries = await world.rows("SELECT * FROM sync.ledger_entry")
    sent = sorted(one.usage_event_id for one in entries if one.state == "counted")
    assert sent == sorted(one.transaction_id for one in stored)
    assert all(verdicts[one.transaction_pk].reasons for one in entries if one.state != "counted")
    assert {one.state for one in entries} <= {"counted", "held"}
    for event_type in ("transaction.synced", "transaction.counted"):
        told = [one.data["usage_event_id"] for one in await world.events(event_type)]
        assert sorted(told) == sent
    sums = await world.rows(
        "SELECT s.transaction_pk, s.stop_wh - s.start_wh AS used, sum(e.to_wh - e.from_wh) AS billed"
        " FROM sync.session s JOIN sync.ledger_entry e USING (steve_id, transaction_pk) GROUP BY 1, 2"
    )
    assert all(one.used == one.billed for one in sums if not verdicts[one.transaction_pk].reasons)
