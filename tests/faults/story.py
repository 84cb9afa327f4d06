"""What sync owes of each session while it is killed again and again, and where it can be made to stand still."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import BaseModel

from deploy.demo.steve.model import StopActor
from shared.bus.requests import Requester
from shared.contracts.request import Request
from shared.contracts.requests.sync_work import SearchHeld
from tests.faults.billing import CARD, SUBSCRIPTION, Billing
from tests.faults.processes import Process
from tests.faults.proxy import UP, Direction, Proxy, Trap
from tests.faults.wire import Matcher
from tests.faults.world import OPERATOR, World
from tests.waiting import until

R = TypeVar("R", bound=BaseModel)
WITHIN_S = 60.0
DECISIONS = ("held", "released", "ignored", "corrected")
STANDING = """
SELECT steve_id || ':' || transaction_pk AS session, billing, hold_reason,
    array(SELECT to_wh - from_wh FROM sync.ledger_entry e
          WHERE (e.steve_id, e.transaction_pk) = (s.steve_id, s.transaction_pk) AND e.state = 'counted'
          ORDER BY seq) AS counted,
    (SELECT count(*) FROM sync.ledger_entry e WHERE (e.steve_id, e.transaction_pk) = (s.steve_id, s.transaction_pk)
        AND e.state IN ('pending', 'sending', 'delivered')) AS on_their_way
FROM sync.session s
"""


@dataclass
class Owed:
    """How a session is to stand once nothing is under way: Wh of each usage event that Lago counts, and what it is held
    for, with so many Wh at stake.
    """

    counted: list[int]
    billing: str = "counted"
    held_for: str | None = None
    at_stake: int = 0
    told: list[str] = field(default_factory=list)
    """What was decided about it (DECISIONS), each told once."""
    subscription: str = SUBSCRIPTION

    @classmethod
    def held(cls, reason: str, at_stake: int) -> Owed:
        return cls([], "held", reason, at_stake, ["held"])


class Moment:
    """A trap at each replica: who comes first stands still, and the others go on."""

    def __init__(self, traps: Sequence[tuple[Process, Proxy, Trap]]) -> None:
        self._traps = traps

    async def reached(self) -> Process:
        """The replica that stands still."""
        waiting = {asyncio.create_task(trap.reached(WITHIN_S)): process for process, _, trap in self._traps}
        try:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            first = done.pop()
            first.result()
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        for process, proxy, _ in self._traps:
            if process is not waiting[first]:
                proxy.resume()
        return waiting[first]


@dataclass
class Story:
    """Sync's replicas, what happens around them, and what they owe of each session that there ever was."""

    world: World
    billing: Billing
    requester: Requester
    replicas: list[Process]
    owed: dict[str, Owed] = field(default_factory=dict)

    def moment(
        self, matches: Matcher, hold: Direction, *, where: Callable[[Process], Proxy | None] = lambda one: one.database
    ) -> Moment:
        """Where a message is sent: held itself, or, holding `DOWN`, the answer to it."""
        ways = [(one, proxy) for one in self.replicas if (proxy := where(one)) is not None]
        return Moment([(one, proxy, proxy.stall_when(UP, matches, hold=hold)) for one, proxy in ways])

    def charge(
        self, energy_wh: int | None, owed: Owed, *, card: str = CARD, stopped_by: StopActor = StopActor.STATION
    ) -> str:
        """One more session, at a charger of its own, and what is owed of it."""
        session = self.billing.charge(energy_wh, f"CP-{len(self.owed)}", card=card, stopped_by=stopped_by)
        self.owed[session] = owed
        return session

    async def ask(self, request: Request[R], key: str | None = None) -> R:
        return await self.requester.ask(request, actor=OPERATOR, key=key, deadline_s=WITHIN_S)

    @contextlib.asynccontextmanager
    async def asked_again(self, request: Request[R], key: str) -> AsyncIterator[None]:
        """An operator asks, learns nothing, and asks once more under the same key."""
        asking = asyncio.create_task(self.ask(request, key))
        try:
            yield
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        await self.ask(request, key)

    @property
    def webhook_url(self) -> str:
        """Where Lago's webhooks find a replica that runs."""
        running = next(one for one in self.replicas if one.alive)
        return f"http://127.0.0.1:{running.port}/webhooks/lago"

    async def until_known(self, card: str) -> None:
        """Until the mirror has seen a card."""

        async def known() -> bool:
            return await self.world.evidence.count("sync.card WHERE id_tag = %s", card) == 1

        await until(known, within_s=WITHIN_S)

    async def until_it_stands(self, session: str) -> None:
        """Until a session is as it is owed."""

        async def stands() -> bool:
            return (await self._standing()).get(session) == self._wanted()[session]

        await self._until(stands)

    async def time_passes(self) -> None:
        """What the dead one had taken is free again."""
        await self.world.evidence.rows(
            "UPDATE sync.ledger_entry SET due_at = now() WHERE state IN ('sending', 'delivered') RETURNING seq"
        )
        await self.world.evidence.rows("UPDATE sync.run_schedule SET lease_until = now() RETURNING steve_id")
        await self.world.evidence.rows(
            "UPDATE sync.webhook SET next_attempt_at = now() WHERE state = 'waiting' RETURNING unique_key"
        )

    async def ends_well(self) -> None:
        """Lago counts what is owed, each Wh once; the rest is in the held queue; and each was told once."""

        async def stands() -> bool:
            return await self._standing() == self._wanted()

        await self._until(stands)
        await self._lago_counts()
        page = await self.ask(SearchHeld(limit=200))
        queue = {one.session.session: (one.reason, one.energy_wh) for one in page.held}
        owed = self.owed.items()
        assert queue == {session: (one.held_for, one.at_stake) for session, one in owed if one.billing == "held"}
        await self._all_is_told()
        await until(self._lago_is_heard, within_s=WITHIN_S)

    async def _lago_counts(self) -> None:
        wanted: defaultdict[str, list[int]] = defaultdict(list)
        for one in self.owed.values():
            wanted[one.subscription] += one.counted
        for subscription, counted in wanted.items():
            assert self.billing.counted_of(subscription) == (sum(counted), len(counted)), subscription

    async def _all_is_told(self) -> None:
        for event_type in ("transaction.synced", "transaction.counted"):
            told = [event["data"] for event in await self.world.evidence.committed(event_type)]
            wh = Counter((one["session"], one["seq"], one["to_wh"] - one["from_wh"]) for one in told)
            owed = self.owed.items()
            assert wh == Counter((session, seq, n) for session, one in owed for seq, n in enumerate(one.counted, 1))
        decided: Counter[tuple[str, str]] = Counter()
        for name in DECISIONS:
            events = await self.world.evidence.committed(f"transaction.{name}")
            decided.update((event["data"]["session"], name) for event in events)
        assert decided == Counter((session, name) for session, one in self.owed.items() for name in one.told)

    async def _lago_is_heard(self) -> bool:
        """Each of its webhooks once, however often it told it."""
        told = await self.world.evidence.committed("webhook.received")
        heard = Counter(event["data"]["unique_key"] for event in told)
        return heard == Counter(one.unique_key for one in self.billing.lago.webhooks.deliveries)

    async def _standing(self) -> dict[str, tuple[str, str | None, list[int], int]]:
        rows = await self.world.evidence.rows(STANDING)
        return {
            row["session"]: (row["billing"], row["hold_reason"], row["counted"], row["on_their_way"]) for row in rows
        }

    def _wanted(self) -> dict[str, tuple[str, str | None, list[int], int]]:
        return {session: (one.billing, one.held_for, one.counted, 0) for session, one in self.owed.items()}

    async def _until(self, stands: Callable[[], Awaitable[bool]]) -> None:
        try:
            await until(stands, within_s=WITHIN_S)
        except AssertionError as error:
            found, wanted = await self._standing(), self._wanted()
            differing = {one: (found.get(one), wanted.get(one)) for one in found | wanted}
            differing = {one: pair for one, pair in differing.items() if pair[0] != pair[1]}
            raise AssertionError(f"sessions as they are and as they are to be: {differing}") from error
