"""Lago's webhooks as sync took them in: what waits, what could not be acted on, and acting on it again."""

from typing import Self

from fastapi import APIRouter
from pydantic import Field, model_validator

from services.admin_api.api.deps import AsOperator, AsViewer, Key
from services.admin_api.api.problems import documented
from services.admin_api.asking import Ask
from shared.bus.requests import NoAnswerError
from shared.contracts.identity import Frozen
from shared.contracts.request import MAX_ROWS
from shared.contracts.requests.sync import GetUpstreams, ReplayWebhooks, WebhooksReplayed, WebhookStanding


class ReplayBody(Frozen):
    """Exactly one of the two."""

    unique_keys: list[str] = Field(default_factory=list, max_length=MAX_ROWS)
    failed: bool = Field(False, description="all that could not be acted on")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if bool(self.unique_keys) == self.failed:
            raise ValueError("give either unique_keys, or failed")
        return self


async def webhooks(ask: Ask) -> WebhookStanding:
    """:raises NoAnswerError: sync does not answer, or does not say."""
    found = (await ask(GetUpstreams())).webhooks
    if found is None:
        raise NoAnswerError("get_upstreams", "sync", "it says nothing of webhooks")
    return found


router = APIRouter(prefix="/webhooks", tags=["webhooks"], responses=documented(401, 403, 422, 503, 504))


@router.get("")
async def get_webhooks(ask: AsViewer) -> WebhookStanding:
    """How Lago's webhooks stand, with the newest that could not be acted on and why."""
    return await webhooks(ask)


@router.post("/replay", responses=documented(400, 409))
async def post_replay(ask: AsOperator, body: ReplayBody, key: Key) -> WebhooksReplayed:
    """Act on stored webhooks again; that does no harm where it is done twice."""
    return await ask.change(ReplayWebhooks(unique_keys=body.unique_keys, failed=body.failed), key)
