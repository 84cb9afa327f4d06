"""The policy `enforce`: cards that nobody would pay for, or that are inactive, are blocked in SteVe."""

from typing import Any

from services.sync.cards.changing import Changes
from services.sync.cards.problems import AlreadyBlocked, CardExpired, UpstreamSilent
from services.sync.cards.wanted import all_wanted, wanted
from shared.contracts.identity import Actor, Cause
from shared.contracts.problem import Problem
from shared.database.engine import Database
from shared.runtime.clock import Clock, NewId
from shared.runtime.log import get_logger

log = get_logger(__name__)

POLICY = Actor(kind="system", id="card-policy")


class Policy:
    def __init__(self, database: Database, cards: Changes, *, clock: Clock, new_id: NewId) -> None:
        self._database, self._cards, self._clock, self._new_id = database, cards, clock, new_id
        # Why a card is not as the policy wants it, by card: told once, and not at every turn.
        self._told: dict[str, str] = {}

    async def enforce(self) -> int:
        """Bring SteVe's blocks to what the policy wants; returns how many cards were changed.

        A block of an operator's, here or in SteVe, is never lifted. An expired card is left as it is: SteVe writes
        none (facts 5), and lets none charge.

        :raises UpstreamError: SteVe does not answer; the rest waits for a turn when it does.
        """
        changed, failed = 0, dict[str, str]()
        for row in await self._differing():
            try:
                if row.expiry is not None and row.expiry <= self._clock():
                    # As the writer would, with SteVe unasked.
                    raise CardExpired(row.id_tag, row.expiry)
                changed += await self._apply(row.id_tag)
            except AlreadyBlocked:
                # By somebody else since the last look, which is to note it.
                continue
            except UpstreamSilent as silent:
                raise silent.error from silent
            except Problem as problem:
                failed[row.id_tag] = problem.code
                if self._told.get(row.id_tag) != problem.code:
                    log.warning("The policy could not be applied.", action="policy.failed", why=problem.detail)
        self._told = failed
        return changed

    async def _differing(self) -> list[Any]:
        async with self._database.read() as tx:
            found = await all_wanted(tx, self._clock())
        return [
            row
            for row, reason in found
            if (reason is not None and row.max_active != 0) or (reason is None and row.block_kind == "policy")
        ]

    async def _apply(self, id_tag: str) -> int:
        """What is wanted is asked again: the turn may have begun minutes ago, and an operator linked the card since."""
        cause = Cause(actor=POLICY, correlation_id=self._new_id())
        async with self._database.write() as tx:
            row = await self._cards.take(tx, id_tag)
            reason = await wanted(tx, id_tag, self._clock())
            if reason is not None and row.max_active != 0:
                await self._cards.block(tx, row, "policy", reason, cause)
                return 1
            if reason is None and row.block_kind == "policy" and row.max_active == 0:
                await self._cards.unblock(tx, row, None, cause)
                return 1
        return 0
