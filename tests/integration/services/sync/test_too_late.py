"""What SteVe or a charger has done is recorded however late it is, and never done again by the same key."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from shared.contracts.request import ReplyEnvelope, Request, RequestEnvelope
from shared.contracts.requests.sync import OperateCharger
from shared.contracts.requests.sync_cards import (
    BlockCard,
    ChangeParent,
    CreateCard,
    SetExpiry,
    UnblockCard,
    UndoChange,
)
from tests.integration.services.sync.conftest import ADA, World, ago

CARD = "04A1B2C3"
# The clock says that so much time passed while SteVe was writing.
MEANWHILE, DEADLINE = timedelta(seconds=60), timedelta(seconds=5)


class Asking:
    """Asks as the bus does, and makes the deadline pass while SteVe is at work."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world, self.done = world, 0
        for name in ("replace_tag", "create_tag", "operate"):
            monkeypatch.setattr(world.rooms.steve, name, self._late(getattr(world.rooms.steve, name)))

    def _late(self, real: Any) -> Any:  # noqa: ANN401 - a method of the client
        async def late(*given: Any, **named: Any) -> Any:  # noqa: ANN401
            self.done += 1
            answer = await real(*given, **named)
            self.world.clock.advance(seconds=MEANWHILE.total_seconds())
            return answer

        return late

    async def __call__(self, request: Request[Any], key: str = "k") -> ReplyEnvelope:
        envelope = RequestEnvelope(
            name=request.name,
            actor=ADA.actor,
            correlationid=uuid4(),
            deadline=self.world.clock() + DEADLINE,
            idempotency_key=key,
            data=request.model_dump(mode="json"),
        )
        reply = await self.world.service.dispatcher.answer(envelope)
        assert reply is not None
        return reply


@pytest.fixture
async def asking(world: World, monkeypatch: pytest.MonkeyPatch) -> Asking:
    world.steve.state.add_tag(CARD, limit=3)
    world.steve.state.add_tag("PARENT")
    await world.rooms.mirror.refresh()
    return Asking(world, monkeypatch)


@pytest.mark.parametrize(
    ("request_", "event", "kind"),
    [
        (CreateCard(id_tag="NEW"), "card.changed", "create"),
        (BlockCard(id_tag=CARD, reason="lost"), "card.blocked", "block"),
        (ChangeParent(id_tag=CARD, parent_id_tag="PARENT"), "card.parent_changed", "parent"),
        (SetExpiry(id_tag=CARD, expiry=ago(days=-30)), "card.changed", "expiry"),
    ],
    ids=lambda given: getattr(given, "name", None),
)
async def test_a_card_that_steve_changed_late(
    world: World, asking: Asking, request_: Request[Any], event: str, kind: str
) -> None:
    """The deadline passed while SteVe wrote: change and event are recorded, and the same key answers with them."""
    before = len(await world.events(event))
    first = await asking(request_)
    assert first.ok, first.problem
    assert await asking(request_) == first
    assert asking.done == 1
    assert len(await world.events(event)) == before + 1
    assert [row.kind for row in await world.rows("SELECT kind FROM sync.card_change")] == [kind]


async def test_a_late_unblocking_and_a_late_undo(world: World, asking: Asking) -> None:
    """Lifting a block and taking back a change write in SteVe too, and are recorded late as well."""
    assert (await asking(BlockCard(id_tag=CARD, reason="lost"), "1")).ok
    lifted = await asking(UnblockCard(id_tag=CARD), "2")
    assert await asking(UnblockCard(id_tag=CARD), "2") == lifted
    assert lifted.value is not None
    undo = UndoChange(change_id=lifted.value["last_change_id"])
    assert await asking(undo, "3") == await asking(undo, "3")
    assert asking.done == 3
    rows = await world.rows("SELECT kind, undone_by IS NOT NULL AS undone FROM sync.card_change ORDER BY change_id")
    assert [(row.kind, row.undone) for row in rows] == [("block", False), ("unblock", True), ("block", False)]


async def test_an_operation_that_was_answered_late(world: World, asking: Asking) -> None:
    """A charger was called and answered after the deadline: its answer is kept, and the same key calls nobody."""
    request = OperateCharger(charge_box_id="CP-1", operation="RemoteStartTransaction", parameters={"idTag": CARD})
    first = await asking(request)
    assert first.value is not None
    assert first.value["outcome"] == "not_connected"
    assert await asking(request) == first
    assert asking.done == 1
    [row] = await world.rows("SELECT outcome FROM sync.charger_operation")
    assert row.outcome == "not_connected"
    assert len(await world.events("charger.operation_finished")) == 1
