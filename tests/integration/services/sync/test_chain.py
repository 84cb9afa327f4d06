"""Which events are found together: what a session does by itself, and what a person's command does with it."""

from shared.contracts.event import Envelope
from shared.contracts.requests.sync_work import IgnoreHeld, RetryHeld
from tests.infra import Infra
from tests.integration.services.audit.test_audit import Auditing, auditing
from tests.integration.services.sync.conftest import ADA, World, ago


async def test_by_one_event_of_a_session_the_audit_log_finds_all_that_it_did(
    world: World, infra: Infra, broker: str
) -> None:
    """Start, stop, billing and count, whoever told them and when; no other session's, and not a card's."""
    await world.link("A")
    running = world.charge("A", None, start_at=ago(minutes=30))
    other = world.charge("A", 500, charge_box_id="CP-2")
    await world.turn()
    stopped_at = ago(minutes=20)
    world.steve.state.stop_by_station(
        charge_box_id="CP-1", pk=running.pk, stop_at=stopped_at, stop_wh=3_000, reason="Local"
    )
    world.clock.advance(minutes=1)
    await world.turn()
    await world.rooms.counting.count()

    told = await world.events()
    (synced,) = [one for one in await world.events("transaction.synced") if one.subject.endswith(f":{running.pk}")]
    async with auditing(infra, broker) as audit:
        await tell(audit, world)
        await audit.has(len(told))
        found = (await audit.search(correlation_id=synced.correlationid, limit=200)).entries
    assert [one.type for one in reversed(found)] == [
        "transaction.started",
        "transaction.stopped",
        "transaction.synced",
        "transaction.counted",
    ]
    assert {one.subject for one in found} == {synced.subject}
    of_other = [one for one in told if one.subject.endswith(f":{other.pk}")]
    assert len({one.correlationid for one in of_other}) == 1


async def test_what_a_person_does_with_a_session_has_the_chain_of_their_command(world: World) -> None:
    """A session that is ignored, and that again not: an operator's doing; that it ended and was held, its own."""
    world.steve.state.add_tag("A")
    session = f"main:{world.charge('A', 500, start_at=ago(minutes=30)).pk}"
    await world.turn()
    async with world.service.database.write() as tx:
        await world.rooms.held.ignore_held(tx, IgnoreHeld(sessions=[session], note="A test."), ADA)
    async with world.service.database.write() as tx:
        await world.rooms.held.retry_held(tx, RetryHeld(sessions=[session]), ADA)
    await world.turn()
    by_type: dict[str, Envelope] = {one.type: one for one in await world.events()}
    by_ada = {one.type for one in by_type.values() if one.correlationid == ADA.correlation_id}
    assert by_ada == {"transaction.ignored", "transaction.released"}
    assert by_type["transaction.held"].correlationid == by_type["transaction.stopped"].correlationid


async def tell(audit: Auditing, world: World) -> None:
    for row in await world.rows("SELECT body, routing_key FROM sync.outbox ORDER BY id"):
        await audit.tell(bytes(row.body), key=row.routing_key)
