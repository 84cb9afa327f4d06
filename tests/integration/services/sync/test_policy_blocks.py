"""Blocks of the policy `enforce`, and what becomes of them beside an operator's and SteVe's own."""

import pytest

from services.sync.cards import problems
from shared.contracts.requests.sync import LinkCard
from shared.contracts.requests.sync_cards import BlockCard, ChangeCard, UnblockCard, UndoChange, UnlinkCard
from tests.integration.services.sync.conftest import Build
from tests.integration.services.sync.test_card_blocks import limit, noted, set_in_steve
from tests.integration.services.sync.test_cards import do


async def test_the_policy_blocks_who_would_not_pay(build_world: Build) -> None:
    """Under `enforce`, unlinked and inactive cards and children of blocked parents are blocked, and unblocked again."""
    world = await build_world(card_policy="enforce")
    state = world.steve.state
    for name, parent in (("PAYS", None), ("LONER", None), ("TOP", None), ("LOW", "TOP"), ("BYHAND", None)):
        state.add_tag(name, parent_id_tag=parent, limit=2)
    for name in ("PAYS", "TOP", "BYHAND"):
        await world.link(name)
    by_hand = state.tag("BYHAND")
    assert by_hand is not None
    by_hand.limit = 0
    await world.rooms.mirror.refresh()
    assert await world.rooms.policy.enforce() == 1

    def limits() -> dict[str, int]:
        return {tag.id_tag: tag.limit for tag in state.tags.values()}

    assert limits() == {"PAYS": 2, "LONER": 0, "TOP": 2, "LOW": 2, "BYHAND": 0}
    with pytest.raises(problems.BlockedByPolicy):
        await do(world, UnblockCard(id_tag="LONER"))
    await do(world, BlockCard(id_tag="TOP", reason="stolen"))
    await do(world, ChangeCard(id_tag="PAYS", changes={"active": False}))
    assert await world.rooms.policy.enforce() == 2
    assert limits() == {"PAYS": 0, "LONER": 0, "TOP": 0, "LOW": 0, "BYHAND": 0}
    await do(world, UnblockCard(id_tag="TOP"))
    await do(world, ChangeCard(id_tag="PAYS", changes={"active": True}))
    await world.link("LONER")
    assert await world.rooms.policy.enforce() == 3
    assert limits() == {"PAYS": 2, "LONER": 2, "TOP": 2, "LOW": 2, "BYHAND": 0}
    assert await world.rooms.policy.enforce() == 0


async def test_a_block_that_steve_lifted_is_forgotten(build_world: Build) -> None:
    """The policy blocked the card, somebody lifted that in SteVe and blocked it again by hand: the second block is
    theirs, and the policy does not lift it though it once had one of its own.
    """
    world = await build_world(card_policy="enforce")
    world.steve.state.add_tag("A", limit=3)
    await world.rooms.mirror.refresh()
    assert await world.rooms.policy.enforce() == 1
    assert (await noted(world)).block_kind == "policy"
    await world.link("A")
    set_in_steve(world, 2)
    await world.rooms.mirror.refresh()
    row = await noted(world)
    assert (row.block_kind, row.block_reason, row.blocked_by, row.remembered_limit) == (None, None, None, None)
    set_in_steve(world, 0)
    await world.rooms.mirror.refresh()
    assert await world.rooms.policy.enforce() == 0
    assert limit(world) == 0
    # The limit that it had is remembered all the same, as long as it is blocked.
    await world.rooms.mirror.refresh()
    assert (await noted(world)).remembered_limit == 2
    await do(world, UnblockCard(id_tag="A"))
    assert limit(world) == 2


async def test_the_policy_makes_no_block_of_somebodys_its_own(build_world: Build) -> None:
    """Set in SteVe's own pages since the last look: the policy neither claims it nor lifts it once the card is linked,
    and whoever lifts it gets the limit there was.
    """
    world = await build_world(card_policy="enforce")
    world.steve.state.add_tag("A", limit=3)
    await world.rooms.mirror.refresh()
    set_in_steve(world, 0)
    assert await world.rooms.policy.enforce() == 0
    await world.link("A")
    assert (await world.rooms.policy.enforce(), limit(world)) == (0, 0)
    assert await world.events("card.blocked") == []
    await do(world, UnblockCard(id_tag="A"))
    assert limit(world) == 3


@pytest.mark.parametrize("why", ["inactive", "unlinked"])
async def test_lifting_ones_own_block_opens_no_card_that_the_policy_wants_shut(build_world: Build, why: str) -> None:
    """An operator's block of a card that the policy wants blocked, too, is not lifted, not even until its next turn,
    by the command nor by undo.
    """
    world = await build_world(card_policy="enforce")
    await world.link("A")
    blocked = await do(world, BlockCard(id_tag="A", reason="lost"))
    if why == "inactive":
        await do(world, ChangeCard(id_tag="A", changes={"active": False}))
    else:
        world.clock.advance(seconds=1)
        await do(world, UnlinkCard(id_tag="A"))
    world.clock.advance(seconds=1)
    for request in (UnblockCard(id_tag="A"), UndoChange(change_id=blocked.last_change_id)):
        with pytest.raises(problems.BlockedByPolicy, match="not active" if why == "inactive" else "linked to nobody"):
            await do(world, request)
        assert limit(world) == 0
    if why == "inactive":
        await do(world, ChangeCard(id_tag="A", changes={"active": True}))
    else:
        await do(world, LinkCard(id_tag="A", external_customer_id="cus_ada", external_subscription_id="sub_ada"))
    world.clock.advance(seconds=1)
    await do(world, UnblockCard(id_tag="A"))
    assert limit(world) == 1


async def test_an_operators_block_over_the_policys_outlasts_a_link(build_world: Build) -> None:
    """A stolen card that the policy blocks for want of a link stays shut once it has one; the limit it had is kept."""
    world = await build_world(card_policy="enforce")
    world.steve.state.add_tag("A", limit=3)
    await world.rooms.mirror.refresh()
    assert await world.rooms.policy.enforce() == 1
    over = await do(world, BlockCard(id_tag="A", reason="stolen"))
    assert (over.block_kind, over.block_reason, over.remembered_limit) == ("operator", "stolen", 3)
    await world.link("A")
    assert (await world.rooms.policy.enforce(), limit(world)) == (0, 0)
    await do(world, UnblockCard(id_tag="A"))
    assert limit(world) == 3


async def test_undoing_what_the_policy_lifted_makes_no_operators_block_of_it(build_world: Build) -> None:
    """The policy lifted its block because nothing stands against the card; undoing that would make a block which the
    policy lifts at once, or which nobody set. It is refused.
    """
    world = await build_world(card_policy="enforce")
    world.steve.state.add_tag("A", limit=3)
    await world.rooms.mirror.refresh()
    assert await world.rooms.policy.enforce() == 1
    await world.link("A")
    assert await world.rooms.policy.enforce() == 1
    [row] = await world.rows("SELECT change_id FROM sync.card_change WHERE kind = 'unblock'")
    with pytest.raises(problems.CannotUndo, match="wants it blocked no longer"):
        await do(world, UndoChange(change_id=row.change_id))
    assert limit(world) == 3
