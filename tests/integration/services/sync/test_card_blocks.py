"""Who a block belongs to, what is remembered of it, and what undoes it."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from services.sync.cards import problems, store
from shared.contracts.requests.sync import LinkCard
from shared.contracts.requests.sync_cards import (
    BlockCard,
    ChangeCard,
    ChangeParent,
    SetExpiry,
    UnblockCard,
    UnlinkCard,
)
from shared.runtime.clock import utc_now, uuid7
from tests.integration.services.sync.conftest import World, ago
from tests.integration.services.sync.test_cards import do, undo

SOME_DAY = utc_now() + timedelta(days=30)


def limit(world: World, id_tag: str = "A") -> int:
    tag = world.steve.state.tag(id_tag)
    assert tag is not None
    return tag.limit


def set_in_steve(world: World, wanted: int, id_tag: str = "A") -> None:
    """Somebody changes the limit in SteVe's own pages."""
    tag = world.steve.state.tag(id_tag)
    assert tag is not None
    tag.limit = wanted


async def noted(world: World, id_tag: str = "A") -> Any:  # noqa: ANN401
    return (await world.rows("SELECT * FROM sync.card WHERE id_tag = :id_tag", id_tag=id_tag))[0]


@pytest.fixture
async def card(world: World) -> World:
    world.steve.state.add_tag("A", limit=3)
    await world.rooms.mirror.refresh()
    return world


async def test_a_block_in_steves_own_pages_keeps_the_limit_there_was(card: World) -> None:
    """Each such block remembers the limit that came before it, and none where it was lifted there."""
    for wanted in (3, 5):
        set_in_steve(card, wanted)
        await card.rooms.mirror.refresh()
        assert (await noted(card)).remembered_limit is None
        set_in_steve(card, 0)
        await card.rooms.mirror.refresh()
        row = await noted(card)
        assert (row.remembered_limit, row.block_kind) == (wanted, None)


@pytest.mark.parametrize("command", [SetExpiry(id_tag="A", expiry=SOME_DAY), BlockCard(id_tag="A", reason="lost")])
async def test_a_command_that_finds_a_block_in_steves_own_pages_keeps_the_limit(
    card: World, command: SetExpiry | BlockCard
) -> None:
    """Set there since the last look: the limit that was noted is remembered, and the block told, by the command's own
    event where it is about that.
    """
    set_in_steve(card, 0)
    await do(card, command)
    await card.rooms.mirror.refresh()
    told = [(one.actorid, one.data["after"]) for one in await card.events("card.changed")]
    assert told.count(("steve", {"max_active_transaction_count": 0})) == isinstance(command, SetExpiry)
    await do(card, UnblockCard(id_tag="A"))
    assert limit(card) == 3


async def test_an_unblocking_that_finds_a_block_in_steves_own_pages_restores_the_limit(card: World) -> None:
    """No look has noted the block yet, and the limit before it is known all the same."""
    set_in_steve(card, 0)
    await do(card, UnblockCard(id_tag="A"))
    assert limit(card) == 3


async def test_a_block_that_a_command_finds_lifted_is_forgotten(card: World) -> None:
    """Lifted in SteVe's own pages, and set there again: the second block is not the one for which the card was lost."""
    await do(card, BlockCard(id_tag="A", reason="lost"))
    set_in_steve(card, 2)
    await do(card, SetExpiry(id_tag="A", expiry=SOME_DAY))
    set_in_steve(card, 0)
    await card.rooms.mirror.refresh()
    row = await noted(card)
    assert (row.block_kind, row.block_reason, row.remembered_limit) == (None, None, 2)


@pytest.mark.parametrize("behind_s", [0, 5])
async def test_an_answer_from_before_a_block_was_written_does_not_lift_it(
    card: World, monkeypatch: pytest.MonkeyPatch, behind_s: int
) -> None:
    """It was asked for while the block was on its way to SteVe, and is noted after the block, also by a replica whose
    clock is a little behind.
    """
    steve, mirror = card.rooms.mirror._steve, card.rooms.mirror
    write, answers = card.rooms.cards._writer.write, []

    async def and_be_asked(*given: Any) -> Any:  # noqa: ANN401
        asked_at = card.clock()
        answers.append((await steve.tags(), asked_at))
        return await write(*given)

    monkeypatch.setattr(card.rooms.cards._writer, "write", and_be_asked)
    await do(card, BlockCard(id_tag="A", reason="lost"))
    [(tags, asked_at)] = answers
    card.clock.advance(seconds=-behind_s)
    async with card.service.database.write() as tx:
        await mirror.apply(tx, tags, asked_at=asked_at, whole=True)
    row = await noted(card)
    assert (row.block_kind, row.block_reason, row.max_active) == ("operator", "lost", 0)


async def test_what_refers_to_a_card_is_written_while_it_is_noted(card: World) -> None:
    """A link's end holds the link, and refers to the card; another tag's noting holds the card, and ends its links.
    Neither waits for the other's card, or PostgreSQL would end one of them.
    """
    row, now = await noted(card), card.clock()
    async with card.service.database.write() as tx, asyncio.timeout(5):
        await store.locked(tx, "A")
        async with card.service.database.write() as other:
            await store.keep_change(
                other, change_id=uuid7(), card_pk=row.pk, kind="unlink", at=now, by="ada", before={}, after={}
            )


async def test_undoing_an_unblocking_blocks_as_it_was(card: World) -> None:
    """The reason and the owner of the block come back with it, and so does the limit when it is lifted again."""
    await do(card, BlockCard(id_tag="A", reason="lost"))
    lifted = await do(card, UnblockCard(id_tag="A", limit=7))
    again = await undo(card, lifted)
    assert (again.block_kind, again.block_reason, again.remembered_limit) == ("operator", "lost", 7)
    lifted = await do(card, UnblockCard(id_tag="A"))
    set_in_steve(card, 2)
    await card.rooms.mirror.refresh()
    with pytest.raises(problems.CannotUndo, match="limit is 2 by now"):
        await undo(card, lifted)


async def test_undoing_an_old_block_leaves_a_newer_one(card: World) -> None:
    """The card was blocked, unblocked, and is blocked again for another reason: undoing the first block says so, and
    lifts nothing.
    """
    first = await do(card, BlockCard(id_tag="A", reason="unpaid"))
    await do(card, UnblockCard(id_tag="A", limit=2))
    card.clock.advance(minutes=1)
    second = await do(card, BlockCard(id_tag="A", reason="stolen"))
    with pytest.raises(problems.CannotUndo, match="not blocked as it was"):
        await undo(card, first)
    assert limit(card) == 0
    await undo(card, second)
    assert limit(card) == 2


async def test_undoing_an_expiry_brings_the_one_before_back(card: World) -> None:
    """And is refused when another one was set since, or when the one before has passed."""
    soon, later = card.clock() + timedelta(hours=1), card.clock() + timedelta(days=9)
    await do(card, SetExpiry(id_tag="A", expiry=soon))
    changed = await do(card, SetExpiry(id_tag="A", expiry=later))
    back = await undo(card, changed)
    assert back.steve is not None
    assert back.steve.expiry is not None
    assert abs(back.steve.expiry - soon) < timedelta(milliseconds=1)
    changed = await do(card, SetExpiry(id_tag="A", expiry=later))
    tag = card.steve.state.tag("A")
    assert tag is not None
    tag.expiry = card.clock() + timedelta(days=20)
    card.clock.advance(seconds=1)
    await card.rooms.mirror.refresh()
    with pytest.raises(problems.CannotUndo, match="expiry is"):
        await undo(card, changed)
    changed = await do(card, SetExpiry(id_tag="A", expiry=later))
    again = await do(card, SetExpiry(id_tag="A", expiry=soon))
    changed = await do(card, SetExpiry(id_tag="A", expiry=later))
    card.clock.advance(hours=2)
    with pytest.raises(problems.CannotUndo, match="expiry it had has passed"):
        await undo(card, changed)
    assert again.last_change_id is not None


async def test_undo_is_refused_when_the_parent_has_moved_on(card: World) -> None:
    """Another parent since, set in SteVe itself, is not overwritten."""
    for name in ("P", "Q"):
        card.steve.state.add_tag(name)
    await card.rooms.mirror.refresh()
    changed = await do(card, ChangeParent(id_tag="A", parent_id_tag="P"))
    tag = card.steve.state.tag("A")
    assert tag is not None
    tag.parent_id_tag = "Q"
    card.clock.advance(seconds=1)
    await card.rooms.mirror.refresh()
    with pytest.raises(problems.CannotUndo, match="parent is Q by now"):
        await undo(card, changed)
    assert tag.parent_id_tag == "Q"


@pytest.mark.parametrize("looked", [False, True])
@pytest.mark.parametrize("what", ["parent", "expiry"])
async def test_a_change_whose_outcome_was_unknown_is_not_stored_as_none(
    card: World, what: str, *, looked: bool
) -> None:
    """It was done, and nobody knew. Tried again before a look, it can be undone; after one, which has told it as
    SteVe's, there is nothing to change, which is said: undoing that would change nothing.
    """
    card.steve.state.add_tag("P")
    await card.rooms.mirror.refresh()
    later = card.clock() + timedelta(days=9)
    request = ChangeParent(id_tag="A", parent_id_tag="P") if what == "parent" else SetExpiry(id_tag="A", expiry=later)
    tag = card.steve.state.tag("A")
    assert tag is not None
    tag.parent_id_tag, tag.expiry = ("P", None) if what == "parent" else (None, later)
    if looked:
        card.clock.advance(seconds=1)
        await card.rooms.mirror.refresh()
        with pytest.raises(problems.AlreadySo, match=f"{what} already"):
            await do(card, request)
        assert await card.rows("SELECT 1 FROM sync.card_change") == []
        return
    await undo(card, await do(card, request))
    assert (tag.parent_id_tag, tag.expiry) == (None, None)


async def test_a_card_that_steve_opened_a_moment_ago_is_blocked_again(card: World) -> None:
    """Whether it is blocked already, SteVe tells: the block that is noted may have been lifted there since the look."""
    await do(card, BlockCard(id_tag="A", reason="unpaid"))
    set_in_steve(card, 2)
    view = await do(card, BlockCard(id_tag="A", reason="stolen"))
    assert (limit(card), view.block_reason, view.remembered_limit) == (0, "stolen", 2)
    with pytest.raises(problems.AlreadyBlocked, match="stolen"):
        await do(card, BlockCard(id_tag="A", reason="again"))


@pytest.mark.parametrize("what", ["parent", "expiry", "limit", "block"])
async def test_undo_is_refused_when_steve_has_moved_on_before_a_look(card: World, what: str) -> None:
    """What somebody changed in SteVe's own pages a moment ago is not overwritten: SteVe itself is asked."""
    for name in ("P", "Q"):
        card.steve.state.add_tag(name)
    await card.rooms.mirror.refresh()
    tag = card.steve.state.tag("A")
    assert tag is not None
    later = card.clock() + timedelta(days=9)
    if what == "parent":
        changed = await do(card, ChangeParent(id_tag="A", parent_id_tag="P"))
        tag.parent_id_tag = "Q"
    elif what == "expiry":
        changed = await do(card, SetExpiry(id_tag="A", expiry=later))
        tag.expiry = later + timedelta(days=9)
    else:
        changed = await do(card, BlockCard(id_tag="A", reason="lost"))
        if what == "limit":
            changed = await do(card, UnblockCard(id_tag="A"))
        tag.limit = 2
    there = (tag.parent_id_tag, tag.expiry, tag.limit)
    with pytest.raises(
        problems.NotBlocked if what == "block" else problems.CannotUndo, match=r"by now|nothing to lift"
    ):
        await undo(card, changed)
    assert (tag.parent_id_tag, tag.expiry, tag.limit) == there


async def test_undo_is_refused_when_a_local_field_has_moved_on(card: World) -> None:
    """A name that was changed again stays as it is, and the refusal says which field it is about."""
    first = await do(card, ChangeCard(id_tag="A", changes={"display_name": "one", "notes": "n"}))
    await do(card, ChangeCard(id_tag="A", changes={"display_name": "two"}))
    with pytest.raises(problems.CannotUndo, match="changed since: display_name"):
        await undo(card, first)


async def test_undo_is_refused_when_the_link_has_moved_on(card: World) -> None:
    """A link that was ended since is not ended again, nor brought back over a newer one."""
    link = LinkCard(
        id_tag="A", external_customer_id="cus_ada", external_subscription_id="sub_ada", valid_from=ago(days=1)
    )
    linked = await do(card, link)
    unlinked = await do(card, UnlinkCard(id_tag="A"))
    card.clock.advance(seconds=1)
    with pytest.raises(problems.CannotUndo, match="changed or ended since"):
        await undo(card, linked)
    await do(card, link.model_copy(update={"valid_from": None}))
    with pytest.raises(problems.CannotUndo, match="linked again since"):
        await undo(card, unlinked)
