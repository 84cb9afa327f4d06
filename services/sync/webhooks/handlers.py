"""Showing how Lago's webhooks stand beside how Lago itself stands, and having some acted on again."""

from collections.abc import Awaitable, Callable
from typing import Final

from services.sync.webhooks import store
from shared.contracts.identity import Cause
from shared.contracts.problem import Invalid
from shared.contracts.requests.sync import (
    GetUpstreams,
    ReplayWebhooks,
    UpstreamList,
    WebhooksReplayed,
    WebhookStanding,
)
from shared.database.engine import Database, Write, after_commit
from shared.runtime.clock import Clock

MOST_FAILED: Final = 10


class WebhookQueries:
    """`upstreams` answers for the upstreams themselves."""

    def __init__(self, database: Database, upstreams: Callable[[GetUpstreams, Cause], Awaitable[UpstreamList]]) -> None:
        self._database, self._upstreams = database, upstreams

    async def get_upstreams(self, request: GetUpstreams, cause: Cause) -> UpstreamList:
        found = await self._upstreams(request, cause)
        async with self._database.read() as tx:
            standing = await store.standing(tx)
            failed = await store.newest_failed(tx, limit=MOST_FAILED)
        webhooks = WebhookStanding(
            received_at=standing.received_at, waiting=standing.waiting, failed=standing.failed, newest_failed=failed
        )
        return found.model_copy(update={"webhooks": webhooks})


class WebhookReplay:
    """`dispatch` has what waits acted on now."""

    def __init__(self, *, clock: Clock, dispatch: Callable[[], None]) -> None:
        self._clock, self._dispatch = clock, dispatch

    async def replay_webhooks(self, tx: Write, request: ReplayWebhooks, _: Cause) -> WebhooksReplayed:
        """:raises Invalid: it says of none that it is meant."""
        if not request.unique_keys and not request.failed:
            raise Invalid("Say which webhooks to replay: their unique_keys, or all that failed.")
        found = await store.replay(tx, request.unique_keys, self._clock(), failed=request.failed)
        if found:
            after_commit(tx, self._dispatch)
        return WebhooksReplayed(replayed=len(found), unknown=sorted(set(request.unique_keys) - found))
