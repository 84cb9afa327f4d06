"""A service is killed at each point on an event's way, reached by holding its network there (no fault code inside).

Each test shows that the point was reached (what is committed, what the broker has, what is recorded), kills, starts
the service again, and compares.
"""

import asyncio
from typing import Any

import pytest

from shared.contracts.requests.preauth import ArmPairing
from tests.faults.processes import Process
from tests.faults.proxy import DOWN, UP, Direction
from tests.faults.wire import BASIC_ACK, BASIC_PUBLISH, Matcher, all_of, calls, commits, says, says_sql
from tests.faults.world import OPERATOR, SETTLED_WITHIN_S, World
from tests.waiting import until

# Enough to be in the middle of something when the point is reached; COUNTS are what the whole test is made of.
LOAD = 20
COUNTS = [pytest.param(3 * LOAD), pytest.param(2000, marks=pytest.mark.full)]
pytestmark = pytest.mark.parametrize("count", COUNTS)
REPEATED = 'inbox_messages_total{outcome="repeated"}'


async def recorded(world: World) -> int:
    return await world.evidence.count("audit.entry")


async def in_outbox(world: World) -> int:
    return await world.evidence.count("preauth.outbox")


async def finish(world: World, killed: Process, answers: list[Any], count: int, *, told_unknown: int = 0) -> None:
    """Start the killed service while taps come in, and more until there are `count`; nothing is lost or done twice."""

    async def back() -> None:
        await killed.start()
        await asyncio.gather(world.preauth.ready(), world.audit.ready())

    answers = [*answers, *await world.taps.during(back())]
    missing = count - sum(answer.answered for answer in answers)
    answers += await world.taps.many(max(LOAD, missing))
    await world.settled(SETTLED_WITHIN_S + count / 50)
    await world.check_journal(answers, told_unknown=told_unknown)


async def test_preauth_is_killed_before_a_tap_is_committed(world: World, count: int) -> None:
    """A tap whose statement never reached the database was let through, and is in the journal after the restart."""
    answers = await world.taps.many(LOAD)
    tag = world.taps.next_tag
    trap = world.preauth.database.stall_when(UP, all_of(says_sql(b"INSERT INTO TAP"), says(tag.encode())))
    answers.append(await world.taps.one())
    await trap.reached()
    assert (answers[-1].id_tag, answers[-1].status, answers[-1].override) == (tag, 200, None)
    assert await world.evidence.count("preauth.tap WHERE id_tag = %s", tag) == 0
    await world.preauth.kill()
    await finish(world, world.preauth, answers, count)


async def test_preauth_is_killed_before_an_interception_is_committed(world: World, count: int) -> None:
    """Blocked was told, and the transaction that would have said so is rolled back: nobody is logged in by it."""
    pairing_id = await blocked(world, f"CP-KILLED-1-{count}")
    assert await pairing_state(world, pairing_id) == "matched"
    assert await interceptions(world, pairing_id) == 0
    await world.preauth.kill()
    await finish(world, world.preauth, world.taps.answers[-1:], count, told_unknown=1)
    assert await pairing_state(world, pairing_id) == "void"
    assert await interceptions(world, pairing_id) == 0


async def test_preauth_is_killed_after_an_interception_was_committed(world: World, count: int) -> None:
    """The commit went through and preauth died before it knew: the interception is told once."""
    charger = f"CP-KILLED-2-{count}"
    pairing_id = await armed(world, charger)
    trap = world.preauth.database.stall_when(UP, commits(b"INSERT INTO", b"OUTBOX"), hold=DOWN)
    answer = await world.taps.one(charger)
    await trap.reached()
    await until(lambda: interceptions(world, pairing_id))
    await world.preauth.kill()
    await finish(world, world.preauth, [answer], count)
    assert await pairing_state(world, pairing_id) == "intercepted"
    assert await interceptions(world, pairing_id) == 1


async def test_preauth_is_killed_after_the_commit_before_the_publish(world: World, count: int) -> None:
    """An event that is committed and not published, in the middle of a batch of which some are, is published later."""
    before = await recorded(world)
    trap = world.preauth.broker.stall_when(UP, calls(BASIC_PUBLISH, b"tap.decided"), skip=LOAD // 2)
    answers = await world.taps.many(LOAD)
    await trap.reached()
    await until(lambda: journal_closed(world))
    assert await in_outbox(world) >= LOAD // 2
    assert await recorded(world) <= before + LOAD // 2
    await world.preauth.kill()
    assert await in_outbox(world) >= LOAD // 2
    await finish(world, world.preauth, answers, count)


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(says_sql(b"DELETE FROM", b"OUTBOX"), id="delete"),
        pytest.param(commits(b"DELETE FROM", b"OUTBOX"), id="commit of the delete"),
    ],
)
async def test_preauth_is_killed_after_the_publish_before_the_delete(world: World, moment: Matcher, count: int) -> None:
    """Events that the broker has and the outbox still holds are published again, and handled once."""
    trap = world.preauth.database.stall_when(UP, moment)
    before, repeated = await recorded(world), await world.audit.metric(REPEATED)
    answers = await world.taps.many(LOAD)
    await trap.reached()
    held = await in_outbox(world)
    # What the outbox holds is recorded already.
    published = await until(lambda: published_and_held(world))
    assert held >= published >= 1
    assert await recorded(world) > before
    await world.preauth.kill()
    await finish(world, world.preauth, answers, count)
    assert await world.audit.metric(REPEATED) >= repeated + published


@pytest.mark.parametrize(
    ("hold", "committed"),
    [pytest.param(UP, 0, id="the commit is held"), pytest.param(DOWN, 1, id="its answer is held")],
)
async def test_audit_is_killed_at_the_commit_of_an_entry(
    world: World, hold: Direction, committed: int, count: int
) -> None:
    """An event whose handling was not committed comes again and is handled; one that was, comes again and is not."""
    before = await recorded(world)
    trap = world.audit.database.stall_when(UP, commits(b"INSERT INTO", b"AUDIT.ENTRY"), hold=hold)
    answers = [await world.taps.one()]
    await trap.reached()

    async def as_held() -> bool:
        return await recorded(world) == before + committed

    await until(as_held)
    assert await world.waiting_in_audits_queue() == 0
    await world.audit.kill()
    assert await recorded(world) == before + committed
    await until(lambda: came_back(world))
    await finish(world, world.audit, answers, count)
    assert await world.audit.metric(REPEATED) == committed


async def test_audit_is_killed_after_handling_before_the_ack(world: World, count: int) -> None:
    """Events that are recorded and not acknowledged come again, and are not recorded again."""
    before = await recorded(world)
    trap = world.audit.broker.stall_when(UP, calls(BASIC_ACK), skip=LOAD // 2)
    answers = await world.taps.many(LOAD)
    await trap.reached()

    async def all_recorded() -> bool:
        return await recorded(world) == before + LOAD

    await until(all_recorded)
    assert await world.waiting_in_audits_queue() == 0
    await world.audit.kill()
    unacknowledged = await until(lambda: came_back(world))
    assert unacknowledged == LOAD - LOAD // 2
    await finish(world, world.audit, answers, count)
    assert await world.audit.metric(REPEATED) == unacknowledged


async def blocked(world: World, charger: str) -> str:
    """A pairing whose tap was told Blocked in time, with the transaction that says so held back.

    A busy machine lets a tap through now and then; then another one is armed.
    """
    for number in range(10):
        pairing_id = await armed(world, f"{charger}-{number}")
        trap = world.preauth.database.stall_when(UP, commits(b"INSERT INTO", b"OUTBOX"))
        answer = await world.taps.one(f"{charger}-{number}")
        await trap.reached()
        if answer.override == "BLOCKED":
            return pairing_id
        world.preauth.database.resume()
        await world.settled()
    raise AssertionError("the machine is too busy: ten taps were answered too late to be blocked")


async def came_back(world: World) -> int:
    """Messages that the broker took back from a consumer that died."""
    return await world.waiting_in_audits_queue()


async def journal_closed(world: World) -> bool:
    return await world.evidence.count("preauth.tap WHERE told IS NULL") == 0


async def published_and_held(world: World) -> int:
    return await world.evidence.count("preauth.outbox JOIN audit.entry USING (event_id)")


async def armed(world: World, charger: str) -> str:
    async with world.requester() as requester:
        pairing = await requester.ask(
            ArmPairing(charge_box_id=charger, purpose="find_card", window_s=300),
            actor=OPERATOR,
            key=charger,
            deadline_s=20,
        )
    await world.settled()
    return str(pairing.pairing_id)


async def pairing_state(world: World, pairing_id: str) -> str:
    (row,) = await world.evidence.rows("SELECT state FROM preauth.pairing WHERE pairing_id = %s", pairing_id)
    return str(row["state"])


async def interceptions(world: World, pairing_id: str) -> int:
    events = await world.evidence.committed("scan.intercepted")
    return sum(event["data"]["pairing_id"] == pairing_id for event in events)
