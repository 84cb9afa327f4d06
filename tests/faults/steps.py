"""The steps of sync's work. Each brings a replica to where it stands still, and yields it, to be killed there; what
people and Lago do when they hear nothing, they do afterwards.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from operator import attrgetter
from urllib.parse import quote

from deploy.demo.steve.model import StopActor
from shared.contracts.requests.sync import LinkCard
from shared.contracts.requests.sync_work import IgnoreHeld, RetryHeld, StartRun
from tests.faults.billing import CUSTOMER, METRIC, SUBSCRIPTION
from tests.faults.processes import Process
from tests.faults.proxy import DOWN, Direction
from tests.faults.story import Owed, Story
from tests.faults.wire import Matcher, commits, says
from tests.waiting import until

ENERGY_WH, LESS_WH, PART_WH = 12_345, 2_345, 5_000
# More than a connector delivers in that time.
TOO_MUCH_WH = 900_000
BATCH = "/api/v1/events/batch"

Step = Callable[[Story, Direction], AbstractAsyncContextManager[Process]]

SETTLED = commits(b"INSERT INTO sync.ledger_entry (")
DELIVERED = commits(b"UPDATE sync.ledger_entry SET", b"delivered_by")
COMMANDED = commits(b"INSERT INTO sync.request_result")
HEEDED = commits(b"UPDATE sync.webhook SET", b"dispatched_at")
LAGO = attrgetter("lago")


def usage_event_id(session: str) -> str:
    return f"steve:{session}:1"


# What every session goes through.


@contextlib.asynccontextmanager
async def billed(story: Story, hold: Direction, *, at: Matcher) -> AsyncIterator[Process]:
    moment = story.moment(at, hold)
    story.charge(ENERGY_WH, Owed([ENERGY_WH]))
    yield await moment.reached()


@contextlib.asynccontextmanager
async def claimed(story: Story, hold: Direction) -> AsyncIterator[Process]:
    """There is a claim every second. It takes something once there is an entry."""
    settled = story.moment(SETTLED, DOWN)
    story.charge(ENERGY_WH, Owed([ENERGY_WH]))
    await settled.reached()
    yield await story.moment(commits(b"SET LOCAL synchronous_commit"), hold).reached()


@contextlib.asynccontextmanager
async def posted(story: Story, hold: Direction) -> AsyncIterator[Process]:
    """The batch never arrives, or Lago has stored it and its answer is lost."""
    events = story.billing.lago.state.events
    before = len(events)
    moment = story.moment(says(f"POST {BATCH}".encode()), hold, where=LAGO)
    story.charge(ENERGY_WH, Owed([ENERGY_WH]))
    victim = await moment.reached()

    async def stored() -> bool:
        return len(events) > before

    if hold is DOWN:
        await until(stored)
    yield victim


# A commit in Lago of which nobody heard.


@contextlib.asynccontextmanager
async def repeated(story: Story, hold: Direction) -> AsyncIterator[Process]:
    """Sent again, Lago has it already: killed when it is asked what it has, or when it has said it."""
    story.billing.lago.faults.add("drop_after_commit", path=BATCH, count=1)
    session = story.charge(ENERGY_WH, Owed([ENERGY_WH]))
    asks = f"GET /api/v1/events/{quote(usage_event_id(session), safe='')} "
    moment = story.moment(says(asks.encode()), hold, where=LAGO)
    yield await moment.reached()


@contextlib.asynccontextmanager
async def read_back(story: Story, hold: Direction) -> AsyncIterator[Process]:
    """The same, when what was read back is written down."""
    story.billing.lago.faults.add("drop_after_commit", path=BATCH, count=1)
    async with billed(story, hold, at=DELIVERED) as victim:
        yield victim


# Held sessions, and what becomes of them.


@contextlib.asynccontextmanager
async def held(story: Story, hold: Direction) -> AsyncIterator[Process]:
    """Before anything is sent: the card is linked to nobody."""
    moment = story.moment(commits(b"UPDATE sync.session SET", b"hold_explanation"), hold)
    story.charge(ENERGY_WH, Owed.held("card_unlinked", ENERGY_WH), card="STRANGER")
    yield await moment.reached()


@contextlib.asynccontextmanager
async def refused(story: Story, hold: Direction) -> AsyncIterator[Process]:
    """By Lago, after it was sent."""
    metric = story.billing.lago.state.metrics[METRIC]
    metric.expression = "event.properties.tariff"
    moment = story.moment(commits(b"UPDATE sync.ledger_entry SET", b"hold_reason"), hold)
    session = story.charge(ENERGY_WH, Owed.held("lago_refused", ENERGY_WH))
    yield await moment.reached()
    await story.until_it_stands(session)
    metric.expression = None


@contextlib.asynccontextmanager
async def released(story: Story, hold: Direction) -> AsyncIterator[Process]:
    """The card is linked, and the operator confirms since when."""
    card = f"NEW-{len(story.owed)}"
    session = story.charge(ENERGY_WH, Owed.held("card_unlinked", ENERGY_WH), card=card)
    await story.until_it_stands(session)
    story.owed[session] = Owed([ENERGY_WH], told=["held", "released"])
    since = story.billing.subscribed_at
    link = LinkCard(
        id_tag=card,
        external_customer_id=CUSTOMER,
        external_subscription_id=SUBSCRIPTION,
        valid_from=since,
        release_from=since,
    )
    moment = story.moment(COMMANDED, hold)
    async with story.asked_again(link, f"release {session}"):
        yield await moment.reached()


@contextlib.asynccontextmanager
async def retried(story: Story, hold: Direction) -> AsyncIterator[Process]:
    """What Lago refused is mended there; the same usage event goes again."""
    metric = story.billing.lago.state.metrics[METRIC]
    metric.expression = "event.properties.tariff"
    session = story.charge(ENERGY_WH, Owed.held("lago_refused", ENERGY_WH))
    await story.until_it_stands(session)
    metric.expression = None
    story.owed[session] = Owed([ENERGY_WH], told=["held", "released"])
    moment = story.moment(COMMANDED, hold)
    async with story.asked_again(RetryHeld(sessions=[session]), f"retry {session}"):
        yield await moment.reached()


@contextlib.asynccontextmanager
async def ignored(story: Story, hold: Direction) -> AsyncIterator[Process]:
    session = story.charge(TOO_MUCH_WH, Owed.held("too_much_energy", TOO_MUCH_WH))
    await story.until_it_stands(session)
    story.owed[session] = Owed([], "ignored", told=["held", "ignored"])
    moment = story.moment(COMMANDED, hold)
    async with story.asked_again(IgnoreHeld(sessions=[session], note="a broken meter"), f"ignore {session}"):
        yield await moment.reached()


# A stop that changes when all of it is counted.


@contextlib.asynccontextmanager
async def corrected(story: Story, hold: Direction, *, at: Matcher) -> AsyncIterator[Process]:
    """Stopped by hand in SteVe; the station's own stop, with less, comes later."""
    session = story.charge(ENERGY_WH, Owed([ENERGY_WH]), stopped_by=StopActor.MANUAL)
    await story.until_it_stands(session)
    story.owed[session] = Owed([ENERGY_WH, -LESS_WH], told=["corrected"])
    story.billing.stop(session, ENERGY_WH - LESS_WH)
    moment = story.moment(at, hold)
    sweep = StartRun(segments=["sweep", "settle", "deliver"])
    await story.ask(sweep, f"sweep for {session}")
    yield await moment.reached()
    # Where the run died before it had found that.
    await story.ask(sweep, f"sweep again for {session}")


# A running session.


@contextlib.asynccontextmanager
async def begun(story: Story, hold: Direction) -> AsyncIterator[Process]:
    """What its meter says is billed while it charges; a process that starts looks at once."""
    session = story.charge(None, Owed([], "open"))
    await story.until_it_stands(session)
    story.owed[session] = Owed([PART_WH], "open")
    story.billing.read(session, PART_WH)
    await story.replicas[0].kill()
    moment = story.moment(SETTLED, hold)
    await story.replicas[0].start()
    yield await moment.reached()


@contextlib.asynccontextmanager
async def ended(story: Story, hold: Direction) -> AsyncIterator[Process]:
    """It ends, and the rest is billed."""
    session = next(session for session, one in story.owed.items() if one.billing == "open")
    story.owed[session] = Owed([PART_WH, ENERGY_WH - PART_WH])
    moment = story.moment(SETTLED, hold)
    story.billing.stop(session, ENERGY_WH)
    yield await moment.reached()


# What Lago tells.


@contextlib.asynccontextmanager
async def told(story: Story, hold: Direction, *, at: Matcher) -> AsyncIterator[Process]:
    """Lago tells that a plan has its charge now: what is held for want of one is billed."""
    name, card = f"sub_{len(story.owed)}", f"CARD-{len(story.owed)}"
    webhooks = story.billing.lago.webhooks
    webhooks.url = story.webhook_url
    story.billing.subscribe(name)
    story.billing.steve.state.add_tag(card)
    await story.until_known(card)
    link = LinkCard(
        id_tag=card,
        external_customer_id=name,
        external_subscription_id=name,
        valid_from=story.billing.subscribed_at,
    )
    await story.ask(link, f"link {card}")
    session = story.charge(ENERGY_WH, Owed.held("plan_without_charge", ENERGY_WH), card=card)
    await story.until_it_stands(session)
    story.owed[session] = Owed([ENERGY_WH], told=["held", "released"], subscription=name)
    moment = story.moment(at, hold)
    webhooks.url = story.webhook_url
    story.billing.price(name)
    webhook = webhooks.deliveries[-1]
    victim = await moment.reached()

    async def answered() -> bool:
        return 200 in webhook.statuses

    if at is HEEDED:
        await until(answered)
    yield victim
    # Once it is answered nobody tells it again, so it is not answered before it is stored.
    if not await answered():
        # It does so by itself, too, later.
        webhooks.url = story.webhook_url
        webhooks.redeliver(webhook)


STEPS: dict[str, Step] = {
    "observe": partial(billed, at=commits(b"INSERT INTO sync.session (")),
    "settle": partial(billed, at=SETTLED),
    "claim": claimed,
    "post": posted,
    "mark": partial(billed, at=DELIVERED),
    "count": partial(billed, at=commits(b"UPDATE sync.ledger_entry SET", b"counted_at")),
    "run": partial(billed, at=commits(b"UPDATE sync.run SET", b"finished_at")),
    "repeat": repeated,
    "read_back": read_back,
    "hold": held,
    "refuse": refused,
    "release": released,
    "retry": retried,
    "ignore": ignored,
    "correction_seen": partial(corrected, at=commits(b"UPDATE sync.session SET", b"changed_at")),
    "correct": partial(corrected, at=SETTLED),
    "correction_mark": partial(corrected, at=DELIVERED),
    "begin": begun,
    "end": ended,
    "hear": partial(told, at=commits(b"INSERT INTO sync.webhook (")),
    "heed": partial(told, at=HEEDED),
}
