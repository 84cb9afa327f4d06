"""Showing how Lago's webhooks stand beside how Lago itself stands."""

from collections.abc import Awaitable, Callable
from typing import Final

from services.sync.webhooks import store
from shared.contracts.identity import Cause
from shared.contracts.requests.sync import GetUpstreams, UpstreamList, WebhookStanding
from shared.database.engine import Database

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
