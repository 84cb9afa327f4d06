"""A service is killed at each point on an event's way, reached by holding its network there (no fault code inside).

Each test shows that the point was reached (what is committed, what the broker has, what is recorded), kills, starts
the service again, and compares.
"""

from typing import Any

import pytest

from shared.contracts.requests.preauth import ArmPairing
from tests.faults.proxy import DOWN, UP, Direction
from tests.faults.wire import BASIC_ACK, BASIC_PUBLISH, Matcher, all_of, calls, commits, says, says_sql
from tests.faults.world import OPERATOR, World
from tests.waiting import until

LOAD = 20
REPEATED = 'inbox_messages_total{outcome="repeated"}'


async def recorded(world: World) -> int:
    return await world.evidence.count("audit.entry")


async def in_outbox(world: World) -> int:
    return await world.evidence.count("preauth.outbox")


async def finish(world: World, answers: list[Any], **how: int) -> None:
    """After the killed service is back: more taps, and then nothing lost and nothing twice."""
    await world.preauth.ready()
    await world.audit.ready()
    answers = [*answers, *await world.taps.many(LOAD)]
    await world.settled()
    await world.check_journal(answers, **how)


async def test_preauth_is_killed_before_a_tap_is_committed(world: World) -> None:
    """A tap whose statement never reached the database was let through, and is in the journal after the restart."""
    answers = await world.taps.many(LOAD)
    tag = world.taps.next_tag
    trap = world.preauth.database.stall_when(UP, all_of(says_sql(b"INSERT INTO TAP"), says(tag.encode())))
    answers.append(await world.taps.one())
    await trap.reached()
    assert (answers[-1].id_tag, answers[-1].status, answers[-1].override) == (tag, 200, None)
    assert await world.evidence.count("preauth.tap WHERE id_tag = %s", tag) == 0
    await world.preauth.kill()
    await world.preauth.start()
    await finish(world, answers)


async def test_preauth_is_killed_before_an_interception_is_committed(world: World) -> None:
    """Blocked was told, and the transaction that would have said so is rolled back: nobody is logged in by it."""
    pairing_id = await armed(world, "CP-KILLED-1")
    trap = world.preauth.database.stall_when(UP, commits(b"INSERT INTO", b"OUTBOX"))
    answer = await world.taps.one("CP-KILLED-1")
    await trap.reached()
    assert await pairing_state(world, pairing_id) == "matched"
    assert await interceptions(world, pairing_id) == 0
    await world.preauth.kill()
    await world.preauth.start()
    await finish(world, [answer], told_unknown=1)
    assert await pairing_state(world, pairing_id) == ("void" if answer.override else "expired")
    assert await interceptions(world, pairing_id) == 0


async def test_preauth_is_killed_after_an_interception_was_committed(world: World) -> None:
    """The commit went through and preauth died before it knew: the interception is told once."""
    pairing_id = await armed(world, "CP-KILLED-2")
    trap = world.preauth.database.stall_when(UP, commits(b"INSERT INTO", b"OUTBOX"), hold=DOWN)
    answer = await world.taps.one("CP-KILLED-2")
    await trap.reached()
    await until(lambda: interceptions(world, pairing_id))
    await world.preauth.kill()
    await world.preauth.start()
    await finish(world, [answer])
    assert await pairing_state(world, pairing_id) == "intercepted"
    assert await interceptions(world, pairing_id) == 1


async def test_preauth_is_killed_after_the_commit_before_the_publish(world: World) -> None:
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
    await world.preauth.start()
    await finish(world, answers)


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(says_sql(b"DELETE FROM", b"OUTBOX"), id="delete"),
        pytest.param(commits(b"DELETE FROM", b"OUTBOX"), id="commit of the delete"),
    ],
)
async def test_preauth_is_killed_after_the_publish_before_the_delete(world: World, moment: Matcher) -> None:
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
    await world.preauth.start()

    async def came_again() -> bool:
        return await world.audit.metric(REPEATED) >= repeated + published

    await until(came_again)
    await finish(world, answers)


@pytest.mark.parametrize(
    ("hold", "committed"),
    [pytest.param(UP, 0, id="the commit is held"), pytest.param(DOWN, 1, id="its answer is held")],
)
async def test_audit_is_killed_at_the_commit_of_an_entry(world: World, hold: Direction, committed: int) -> None:
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
    await world.audit.start()
    await finish(world, answers)
    assert await world.audit.metric(REPEATED) == committed


async def test_audit_is_killed_after_handling_before_the_ack(world: World) -> None:
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
    await world.audit.start()
    await finish(world, answers)
    assert await world.audit.metric(REPEATED) == unacknowledged


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
