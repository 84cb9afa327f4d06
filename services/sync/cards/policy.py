"""The policy `enforce`: cards that nobody would pay for, or that are inactive, are blocked in SteVe."""

from typing import Any

from services.sync.cards import rules, store
from services.sync.cards.commands import Cards
from services.sync.links import store as links
from services.sync.links.rules import Owner, resolve
from shared.contracts.identity import Actor, Cause
from shared.contracts.problem import Problem
from shared.database.engine import Database
from shared.runtime.clock import Clock, NewId
from shared.runtime.log import get_logger

log = get_logger(__name__)

POLICY = Actor(kind="system", id="card-policy")


def wanted_block(card: Any, owner: Owner | None, blocked_ancestors: list[str]) -> str | None:  # noqa: ANN401 - a row of card
    """Why the policy wants the card blocked, or None. What a parent or a subscription would allow comes last."""
    if not card.active:
        return "it is not active"
    if blocked_ancestors:
        return f"its parent {blocked_ancestors[0]} is blocked"
    if card.card_type != "meta" and owner is None:
        return "it is linked to nobody"
    return None


class Policy:
    def __init__(self, database: Database, cards: Cards, *, clock: Clock, new_id: NewId) -> None:
        self._database, self._cards, self._clock, self._new_id = database, cards, clock, new_id

    async def enforce(self) -> int:
        """Bring SteVe's blocks to what the policy wants; returns how many cards were changed.

        A block of an operator's, here or in SteVe, is never lifted.
        """
        changed = 0
        for id_tag, reason in await self._differing():
            try:
                changed += await self._apply(id_tag, reason)
            except Problem as problem:
                log.warning("The policy could not be applied.", action="policy.failed", why=problem.detail)
        return changed

    async def _differing(self) -> list[tuple[str, str | None]]:
        async with self._database.read() as tx:
            cards = {key: row for key, row in (await store.rows(tx)).items() if row.gone_at is None}
            ownership = await links.ownership(tx, cards.keys())
        parents = {key: row.parent_id_tag for key, row in cards.items()}
        now, found = self._clock(), []
        for key, row in cards.items():
            chain, _ = rules.ancestors(key, parents)
            blocked = [one for one in chain if one in cards and cards[one].max_active == 0]
            owner = resolve(key, now, ownership.links, ownership.parents)
            reason = wanted_block(row, owner if isinstance(owner, Owner) else None, blocked)
            if (reason is not None and row.max_active != 0) or (reason is None and row.block_kind == "policy"):
                found.append((key, reason))
        return found

    async def _apply(self, id_tag: str, reason: str | None) -> int:
        cause = Cause(actor=POLICY, correlation_id=self._new_id())
        async with self._database.write() as tx:
            row = await self._cards.take(tx, id_tag)
            if reason is not None and row.max_active != 0:
                await self._cards.block(tx, row, "policy", reason, cause)
                return 1
            if reason is None and row.block_kind == "policy" and row.max_active == 0:
                await self._cards.unblock(tx, row, None, cause)
                return 1
        return 0
