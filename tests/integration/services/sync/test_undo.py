"""Undoing: each kind of change, its undo, and the undo of that."""

from datetime import timedelta
from typing import Any

import pytest

from services.sync.cards.problems import CannotUndo
from shared.contracts.request import Request
from shared.contracts.requests.sync import LinkCard
from shared.contracts.requests.sync_cards import (
    BlockCard,
    ChangeCard,
    ChangeParent,
    RelinkCard,
    SetExpiry,
    UnblockCard,
    UnlinkCard,
)
from tests.integration.services.sync.conftest import Build, World, ago
from tests.integration.services.sync.test_card_blocks import limit, noted, set_in_steve
from tests.integration.services.sync.test_cards import do, undo

ADA = {"external_customer_id": "cus_ada", "external_subscription_id": "sub_ada"}
BOB = {"external_customer_id": "cus_bob", "external_subscription_id": "sub_bob"}
NEXT_MONTH = ago(days=-30)

CHANGES: dict[str, Request[Any]] = {
    "BLOCK": BlockCard(id_tag="BLOCK", reason="stolen"),
    "BLOCK.OVER.POLICY": BlockCard(id_tag="BLOCK.OVER.POLICY", reason="stolen"),
    "BLOCK.OVER.STEVE": BlockCard(id_tag="BLOCK.OVER.STEVE", reason="stolen"),
    "UNBLOCK": UnblockCard(id_tag="UNBLOCK"),
    "PARENT": ChangeParent(id_tag="PARENT", parent_id_tag="META"),
    "EXPIRY": SetExpiry(id_tag="EXPIRY", expiry=NEXT_MONTH),
    "LOCAL": ChangeCard(id_tag="LOCAL", changes={"display_name": "Pool car", "active": False}),
    "LINK": LinkCard(id_tag="LINK", **BOB, valid_from=ago(days=3)),
    "RELINK": RelinkCard(id_tag="RELINK", **BOB, valid_from=ago(days=3)),
    "UNLINK": UnlinkCard(id_tag="UNLINK", valid_to=ago(days=3)),
}
UNLINKED = {"BLOCK.OVER.POLICY", "LINK"}
LINKS = (
    "SELECT external_subscription_id, valid_from, valid_to FROM sync.link JOIN sync.card ON card.pk = card_pk"
    " WHERE id_tag = :id_tag ORDER BY valid_from"
)


async def stands(world: World, id_tag: str) -> tuple[Any, ...]:
    """How a card stands in SteVe and here, and who pays for it when."""
    tag, row = world.steve.state.tag(id_tag), await noted(world, id_tag)
    assert tag is not None
    block = (row.block_kind, row.block_reason, row.remembered_limit)
    links = tuple(tuple(one) for one in await world.rows(LINKS, id_tag=id_tag))
    return tag.limit, tag.parent_id_tag, tag.expiry, row.display_name, row.active, block, links


async def test_each_change_is_undone_and_so_is_its_undo(build_world: Build) -> None:
    """Back and forth, where nothing else came in between: the card stands as before, and then as after the change."""
    world = await build_world(card_policy="enforce")
    world.steve.state.add_tag("META")
    for id_tag in CHANGES:
        world.steve.state.add_tag(id_tag, limit=3)
        if id_tag not in UNLINKED:
            await world.link(id_tag, valid_from=ago(days=30))
    await do(world, BlockCard(id_tag="UNBLOCK", reason="lost"))
    set_in_steve(world, 0, "BLOCK.OVER.STEVE")
    await world.rooms.mirror.refresh()
    assert await world.rooms.policy.enforce() == 3
    for id_tag, request in CHANGES.items():
        before = await stands(world, id_tag)
        done = await do(world, request)
        after = await stands(world, id_tag)
        assert before != after, id_tag
        for expected in (before, after, before):
            world.clock.advance(seconds=1)
            done = await undo(world, done)
            assert (id_tag, await stands(world, id_tag)) == (id_tag, expected)


async def test_an_operators_block_that_is_taken_back_leaves_the_policys(build_world: Build) -> None:
    """The card stays shut for the policy's reason, which is told and is no unblocking, and opens with its next link."""
    world = await build_world(card_policy="enforce")
    world.steve.state.add_tag("A", limit=3)
    await world.rooms.mirror.refresh()
    assert await world.rooms.policy.enforce() == 1
    over = await do(world, BlockCard(id_tag="A", reason="stolen"))
    view = await undo(world, over)
    assert (view.block_kind, view.block_reason, limit(world)) == ("policy", "it is linked to nobody", 0)
    newest = (await world.events())[-1]
    assert (newest.type, newest.data["before"], newest.data["after"]) == (
        "card.changed",
        {"block_kind": "operator", "block_reason": "stolen", "blocked_by": "ada"},
        {"block_kind": "policy", "block_reason": "it is linked to nobody", "blocked_by": "card-policy"},
    )
    await world.link("A")
    assert (await world.rooms.policy.enforce(), limit(world)) == (1, 3)


async def test_the_limit_that_a_block_found_outlasts_it(world: World) -> None:
    """SteVe's own block was not noted yet when an operator's came over it, which found the limit of before."""
    world.steve.state.add_tag("A", limit=3)
    await world.rooms.mirror.refresh()
    set_in_steve(world, 0)
    view = await undo(world, await do(world, BlockCard(id_tag="A", reason="stolen")))
    assert (view.block_kind, limit(world)) == (None, 0)
    await do(world, UnblockCard(id_tag="A"))
    assert limit(world) == 3


@pytest.mark.parametrize("why", ["linked again", "another tag"])
async def test_a_link_that_was_taken_back_comes_back_for_its_own_tag(world: World, why: str) -> None:
    """And beside no other link: what has moved on is told."""
    world.steve.state.add_tag("A")
    await world.rooms.mirror.refresh()
    gone = await undo(world, await do(world, LinkCard(id_tag="A", **ADA, valid_from=ago(days=3))))
    world.clock.advance(minutes=1)
    if why == "linked again":
        await do(world, LinkCard(id_tag="A", **BOB))
    else:
        tag = world.steve.state.tag("A")
        assert tag is not None
        world.steve.state.remove_tag(tag.pk)
        world.steve.state.add_tag("A")
        await world.rooms.mirror.refresh()
    with pytest.raises(CannotUndo, match=why):
        await undo(world, gone)
    assert len(await world.rows("SELECT 1 FROM sync.link")) == (why == "linked again")


@pytest.mark.parametrize("relinked", [False, True])
async def test_a_link_that_is_used_before_it_begins_is_undone(world: World, *, relinked: bool) -> None:
    """By a charger whose clock is ahead: the link ends as soon as it has begun."""
    world.steve.state.add_tag("A")
    await world.rooms.mirror.refresh()
    if relinked:
        await world.link("A", valid_from=ago(days=3))
    soon = world.clock().replace(microsecond=0) + timedelta(hours=1)
    view = await do(world, (RelinkCard if relinked else LinkCard)(id_tag="A", **BOB, valid_from=soon))
    pk = world.charge("A", 4_000, start_at=soon + timedelta(minutes=1)).pk
    await world.turn()
    assert (await world.session(pk)).owner_subscription == "sub_bob"
    await undo(world, view)
    [used] = await world.rows("SELECT * FROM sync.link WHERE external_subscription_id = 'sub_bob'")
    assert used.valid_from == soon
    assert soon < used.valid_to < soon + timedelta(seconds=1)


async def test_a_link_that_comes_back_leaves_what_was_billed_meanwhile(world: World) -> None:
    """A relink was undone, and the card charged by the link of before: whoever was billed since pays until now, also
    for a session of that time that is uploaded only later.
    """
    await world.link("A", valid_from=ago(days=30))
    undone = await undo(world, await do(world, RelinkCard(id_tag="A", **BOB, valid_from=ago(days=14))))
    world.charge("A", 4_000, start_at=ago(days=5))
    await world.turn()
    await undo(world, undone)
    ada, bob = await world.rows(LINKS, id_tag="A")
    assert (ada.valid_to, bob.external_subscription_id) == (bob.valid_from, "sub_bob")
    assert bob.valid_from > ago(days=1)
    late = world.charge("A", 1_000, start_at=ago(days=4)).pk
    await world.turn()
    assert (await world.session(late)).owner_subscription == "sub_ada"


async def test_a_link_that_comes_back_begins_when_it_did(world: World) -> None:
    """What was billed before the relink stays whose it is, also of the time that the relink was dated back to; undone
    and made again with nobody billed in between, it begins when it did.
    """
    await world.link("A", valid_from=ago(days=30))
    world.charge("A", 4_000, start_at=ago(days=10))
    await world.turn()
    undone = await undo(world, await do(world, RelinkCard(id_tag="A", **BOB, valid_from=ago(days=14))))
    await undo(world, undone)
    ada, bob = await world.rows(LINKS, id_tag="A")
    assert ada.valid_to == bob.valid_from < ago(days=13)
    assert world.counted("sub_ada") == (4_000, 1)
