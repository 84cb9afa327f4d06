"""What becomes of a card, and of its limit, where SteVe's answer to a change is lost or cannot be read."""

from typing import Any

import pytest

from deploy.demo.steve.faults import FaultName
from services.sync.cards import problems
from shared.contracts.requests.sync_cards import BlockCard, CreateCard, UnblockCard
from tests.integration.services.sync.conftest import World
from tests.integration.services.sync.test_card_blocks import limit, noted
from tests.integration.services.sync.test_cards import do, undo

TAG = "/steve/api/v1/ocppTags"


@pytest.fixture
async def card(world: World) -> World:
    world.steve.state.add_tag("A", limit=3)
    await world.rooms.mirror.refresh()
    return world


@pytest.mark.parametrize("fault", ["garbled_after_commit", "empty_after_commit", "drop_after_commit"])
async def test_a_block_whose_answer_cannot_be_read_is_read_back(card: World, fault: FaultName) -> None:
    """SteVe blocked the card, and a page, or nothing, came instead of its answer: the tag tells that it is done."""
    card.steve.faults.set(fault, path=TAG, methods=("PUT",), times=1)
    view = await do(card, BlockCard(id_tag="A", reason="lost"))
    assert view.steve is not None
    assert (view.steve.blocked, view.remembered_limit) == (True, 3)
    await do(card, UnblockCard(id_tag="A"))
    assert limit(card) == 3


@pytest.mark.parametrize("fault", ["garbled_after_commit", "empty_after_commit"])
async def test_a_limit_survives_an_answer_that_can_neither_be_read_nor_read_back(
    card: World, fault: FaultName, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then it is not known whether the card is blocked, and said so; the limit there was is kept until it is."""
    card.steve.faults.set(fault, path=TAG, methods=("PUT",), times=1)
    real = card.rooms.steve.replace_tag

    async def then_gone(*given: Any) -> Any:  # noqa: ANN401
        card.steve.faults.set("down", path=TAG, methods=("GET",), times=1)
        return await real(*given)

    with monkeypatch.context() as patch:
        patch.setattr(card.rooms.steve, "replace_tag", then_gone)
        with pytest.raises(problems.OutcomeUnknown):
            await do(card, BlockCard(id_tag="A", reason="lost"))
    assert limit(card) == 0
    await card.rooms.mirror.refresh()
    view = await do(card, UnblockCard(id_tag="A"))
    assert view.steve is not None
    assert view.steve.max_active_transaction_count == 3


async def blocked_unseen(card: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """SteVe answered that it is written, and was gone when it was to be read back."""
    real = card.rooms.steve.replace_tag

    async def then_gone(*given: Any) -> Any:  # noqa: ANN401
        written = await real(*given)
        card.steve.faults.set("down", path=TAG, methods=("GET",), times=1)
        return written

    with monkeypatch.context() as patch:
        patch.setattr(card.rooms.steve, "replace_tag", then_gone)
        with pytest.raises(problems.OutcomeUnknown):
            await do(card, BlockCard(id_tag="A", reason="lost"))


async def test_a_limit_survives_a_write_that_cannot_be_compared(card: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was noted before it was written."""
    await blocked_unseen(card, monkeypatch)
    await card.rooms.mirror.refresh()
    await do(card, UnblockCard(id_tag="A"))
    assert limit(card) == 3


async def test_a_block_that_was_tried_before_is_undone_whole(card: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The try before had been carried out, and nobody knew: what the block replaced is the limit of before both."""
    await blocked_unseen(card, monkeypatch)
    await undo(card, await do(card, BlockCard(id_tag="A", reason="lost")))
    assert (limit(card), (await noted(card)).block_kind) == (3, None)
    [told] = await card.events("card.blocked")
    assert told.data["limit_before"] == 3


@pytest.mark.parametrize("fault", ["wrong_credentials", "forbidden", "login_redirect"])
async def test_a_write_that_was_turned_away_was_not_done(card: World, fault: FaultName) -> None:
    """Whoever refuses to let us in has done nothing: nothing is noted of a block, and the caller may repeat it."""
    card.steve.faults.set(fault, path=TAG, methods=("PUT", "POST"))
    with pytest.raises(problems.UpstreamSilent):
        await do(card, BlockCard(id_tag="A", reason="lost"))
    with pytest.raises(problems.UpstreamSilent):
        await do(card, CreateCard(id_tag="NEW"))
    assert limit(card) == 3
    row = await noted(card)
    assert (row.block_kind, row.remembered_limit) == (None, None)


@pytest.mark.parametrize("fault", ["garbled_after_commit", "empty_after_commit"])
async def test_a_card_whose_creation_cannot_be_read_is_read_back(card: World, fault: FaultName) -> None:
    """The new card is there, whatever came instead of the answer."""
    card.steve.faults.set(fault, path=TAG, methods=("POST",), times=1)
    view = await do(card, CreateCard(id_tag="NEW"))
    assert view.steve is not None


async def blocked_in_vain(card: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """SteVe does not do it, and is gone when it is asked whether it did."""
    card.steve.faults.set("drop_before", path=TAG, methods=("PUT",), times=1)
    real = card.rooms.steve.replace_tag

    async def then_gone(*given: Any) -> Any:  # noqa: ANN401
        card.steve.faults.set("down", path=TAG, methods=("GET",), times=1)
        return await real(*given)

    with monkeypatch.context() as patch:
        patch.setattr(card.rooms.steve, "replace_tag", then_gone)
        with pytest.raises(problems.OutcomeUnknown):
            await do(card, BlockCard(id_tag="A", reason="lost"))


async def test_a_block_that_never_came_about_is_asked_for_again(card: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is noted, and there is none to lift; at once it can be asked for again, and undone."""
    await blocked_in_vain(card, monkeypatch)
    with pytest.raises(problems.NotBlocked):
        await do(card, UnblockCard(id_tag="A"))
    view = await do(card, BlockCard(id_tag="A", reason="lost"))
    assert limit(card) == 0
    await undo(card, view)
    assert (limit(card), (await noted(card)).block_kind) == (3, None)


async def test_a_block_that_never_came_about_is_forgotten(card: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was noted, and whether it was written was not known: as long as it may still be on its way it stays noted;
    after that, a card that is not blocked has no block.
    """
    await blocked_in_vain(card, monkeypatch)
    await card.rooms.mirror.refresh()
    assert (await noted(card)).remembered_limit == 3
    card.clock.advance(minutes=6)
    await card.rooms.mirror.refresh()
    assert (await noted(card)).remembered_limit is None
    assert limit(card) == 3
