"""What a clock that was ahead put off waits for no time that only it would have reached."""

from datetime import timedelta

from services.sync.sessions.poll import RECENT
from services.sync.steve.client import MOST_PKS
from tests.integration.services.sync.conftest import World, ago
from tests.integration.services.sync.webhooks.test_dispatch import told, webhook

SUBSCRIPTIONS, BATCH = "/api/v1/subscriptions", "/api/v1/events/batch"
TIMES = """
    SELECT settle_at AS at FROM sync.session UNION ALL SELECT due_at FROM sync.ledger_entry
    UNION ALL SELECT next_attempt_at FROM sync.webhook UNION ALL SELECT due_at FROM sync.reconcile_subject
"""


async def put_off(world: World) -> tuple[int, int, int]:
    """A session that waits for Lago to tell of its subscription, an entry for Lago to take it, a delivered one until it
    is looked for, a webhook and a proof until their next turn.
    """
    delivered = world.charge("A", 1_000).pk
    await world.turn()
    world.lago.faults.add("http_503", path=BATCH)
    sent = world.charge("A", 2_000).pk
    await world.turn()
    # Twice: then Lago is not asked for a while.
    world.clock.advance(minutes=2)
    await world.turn()
    world.lago.faults.add("http_503", path=SUBSCRIPTIONS)
    waits = world.charge("A", 4_000).pk
    world.clock.advance(minutes=2)
    await world.rooms.poller.poll()
    await world.rooms.settler.settle()
    await told(world)
    await world.rooms.dispatch.dispatch()
    await world.rooms.reconciler.run_due()
    world.lago.faults.clear()
    world.rooms.lago._caller._breaker.succeeded()
    return delivered, sent, waits


async def work(world: World) -> None:
    await world.rooms.dispatch.dispatch()
    await world.turn()
    await world.rooms.counting.count()


async def states(world: World, *pks: int) -> list[str]:
    return [(await world.session(pk)).billing for pk in pks]


async def test_what_a_clock_ahead_put_off_is_done_when_it_is_set_right(world: World) -> None:
    """Sessions, usage events, whether they are counted, webhooks: within a minute, and not when two hours are over."""
    await world.link("A")
    world.clock.advance(hours=2)
    pks = await put_off(world)
    world.clock.advance(hours=-2)
    await work(world)
    assert await states(world, *pks) == ["synced", "pending", "pending"]
    await world.rooms.due.bring_forward()
    await work(world)
    assert await states(world, *pks) == ["counted"] * 3
    assert world.counted() == (7_000, 3)
    assert (await webhook(world)).state == "done"


async def test_a_proof_that_a_clock_ahead_put_off_is_made(world: World) -> None:
    """After a clock that was a year ahead, which is longer than any waits."""
    await world.link("A")
    world.charge("A", 1_000)
    await world.turn()
    await world.rooms.reconciler.run_due()
    async with world.service.database.write() as tx:
        await tx.exec_driver_sql("UPDATE sync.reconcile_subject SET due_at = due_at + interval '1 year'")
    assert await world.rooms.reconciler.run_due() == 0
    await world.rooms.due.bring_forward()
    assert await world.rooms.reconciler.run_due() == 1


async def test_what_a_process_remembers_of_a_clock_ahead_is_over(world: World) -> None:
    """That Lago was not set up, when ids were looked for that jumped, and the last sweep: each is asked for again."""
    await world.link("A")
    world.charge("A", 1_000)
    world.clock.advance(hours=30)
    metric = world.lago.state.metrics.pop(next(iter(world.lago.state.metrics)))
    await world.rooms.runner.turn()
    await world.rooms.poller.poll()
    assert not await world.rooms.gate.is_open()
    world.clock.advance(hours=-30)
    world.lago.state.metrics[metric.code] = metric
    assert await world.rooms.gate.is_open()
    world.steve.state.skip_transaction_pks(2 * MOST_PKS)
    jumped = world.charge("A", None).pk
    await world.rooms.poller.poll()
    assert (await world.session(jumped)).billing == "open"
    await world.rooms.runner.turn()
    [row] = await world.rows("SELECT swept_at FROM sync.run_schedule")
    assert row.swept_at <= world.clock()


async def test_a_session_that_is_seldom_looked_at_is_seen_to_stop(world: World) -> None:
    """One that is open for days is asked about each minute, also after a clock that was ahead had it asked about."""
    old = world.charge("A", None, start_at=world.clock().replace(microsecond=0) - 2 * RECENT)
    # The last one is asked for with what is new.
    world.charge("B", 1_000, charge_box_id="CP-2")
    world.clock.advance(hours=2)
    await world.rooms.poller.poll()
    world.clock.advance(hours=-2)
    world.steve.state.stop_by_station(
        charge_box_id="CP-1", pk=old.pk, stop_at=ago(minutes=1), stop_wh=int(old.start_value) + 70, reason=None
    )
    await world.rooms.poller.poll()
    assert (await world.session(old.pk)).stopped_at is not None


async def test_what_is_to_be_proven_is_found_after_a_clock_that_was_ahead(world: World) -> None:
    """A subscription that is billed first when the clock is right again."""
    await world.link("A")
    world.charge("A", 1_000)
    await world.turn()
    world.clock.advance(hours=2)
    assert await world.rooms.reconciler.run_due() == 1
    world.clock.advance(hours=-2)
    await world.link("B", customer="cus_bob", subscription="sub_bob")
    world.charge("B", 1_000, charge_box_id="CP-2")
    await world.turn()
    assert await world.rooms.reconciler.run_due() == 1


async def test_what_waits_as_it_should_goes_on_waiting(world: World) -> None:
    """Nothing that a right clock put off is brought forward, nor by another replica, whose clock is a little behind."""
    await world.link("A")
    await put_off(world)
    # Looked at again after five minutes: no session waits for longer.
    world.charge("A", 1_000, charge_box_id="CP-2", start_at=world.clock() + timedelta(hours=1))
    await world.rooms.poller.poll()
    await world.rooms.settler.settle()
    before = await world.rows(TIMES)
    world.clock.offset -= timedelta(seconds=50)
    await world.rooms.due.bring_forward()
    assert await world.rows(TIMES) == before
