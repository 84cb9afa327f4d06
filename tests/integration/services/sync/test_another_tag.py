"""A tag that is deleted in SteVe, and made again under the same idTag for somebody else."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from services.sync.cards.problems import CannotUndo
from services.sync.steve.models import Tag
from shared.contracts.requests.sync import LinkCard
from shared.contracts.requests.sync_cards import (
    ChangeParent,
    CreateCard,
    RelinkCard,
    UndoChange,
    UnlinkCard,
)
from tests.integration.services.sync.conftest import World
from tests.integration.services.sync.test_cards import do, undo

BOB = {"external_customer_id": "cus_bob", "external_subscription_id": "sub_bob"}
BOB_BY_NAME = {"customer": "cus_bob", "subscription": "sub_bob"}


async def linked(world: World) -> None:
    """Ada's card, which sync saw in SteVe since."""
    await world.link("A")
    world.clock.advance(minutes=1)
    await world.rooms.mirror.refresh()


async def below_adas(world: World) -> None:
    """A card that Ada pays for because its parent is hers, which sync saw in SteVe since."""
    await world.link("PARENT")
    world.steve.state.add_tag("A", parent_id_tag="PARENT")
    world.clock.advance(minutes=1)
    await world.rooms.mirror.refresh()


def delete(world: World, id_tag: str = "A") -> None:
    tag = world.steve.state.tag(id_tag)
    assert tag is not None
    world.steve.state.remove_tag(tag.pk)


async def charged_once_made_again(world: World, looked: str, after: timedelta) -> int:
    """The tag is deleted, made again so long after that, and charges; sync looks in between, only afterwards, or never
    before it has the session.
    """
    delete(world)
    if looked == "between":
        await world.rooms.mirror.refresh()
    world.clock.advance(seconds=after.total_seconds())
    world.steve.state.add_tag("A")
    pk = await charged(world)
    if looked == "never":
        await world.rooms.poller.poll()
    return pk


async def charged(world: World) -> int:
    return world.charge("A", 4_000, start_at=world.clock().replace(microsecond=0)).pk


async def settled(world: World, pk: int) -> tuple[str, str | None]:
    world.clock.advance(minutes=10)
    await world.turn()
    row = await world.session(pk)
    return row.billing, row.hold_reason


@pytest.mark.parametrize("looked", ["between", "after", "never"])
async def test_the_next_driver_is_not_billed_to_the_one_before(world: World, looked: str) -> None:
    """Whether sync looked while there was no tag, or only after there was another one, or not before its first session:
    the link is over, this is told, and the session is held until somebody links the card.
    """
    await linked(world)
    pk = await charged_once_made_again(world, looked, timedelta(minutes=1))
    assert await settled(world, pk) == ("held", "card_unlinked")
    [told] = await world.events("card.unlinked")
    assert (told.actorid, told.data["external_customer_id"]) == ("steve", "cus_ada")
    await do(world, LinkCard(id_tag="A", **BOB, valid_from=world.clock()))
    world.clock.advance(seconds=5)
    other = await charged(world)
    assert await settled(world, other) == ("synced", None)
    assert (world.counted("sub_ada"), world.counted("sub_bob")) == ((0, 0), (4_000, 1))


@pytest.mark.parametrize("looked", ["between", "after", "never"])
async def test_the_next_driver_is_not_billed_to_the_parent_of_the_one_before(world: World, looked: str) -> None:
    """The parent that the tag before had ends with it, and not when sync learns of it, which may be hours later."""
    await below_adas(world)
    pk = await charged_once_made_again(world, looked, timedelta(hours=2))
    assert await settled(world, pk) == ("held", "card_unlinked")


async def test_a_parent_that_the_next_tag_has_pays_for_it_from_its_beginning(world: World) -> None:
    """The same one as before, or another one: SteVe says so of the new tag."""
    await below_adas(world)
    await world.link("OTHER", **BOB_BY_NAME)
    owners = []
    for parent in ("PARENT", "OTHER"):
        delete(world)
        world.clock.advance(minutes=10)
        world.steve.state.add_tag("A", parent_id_tag=parent)
        pk = await charged(world)
        assert await settled(world, pk) == ("synced", None)
        owners.append((await world.session(pk)).owner_customer)
    assert owners == ["cus_ada", "cus_bob"]


@pytest.mark.parametrize("answer", ["as before", "changed", "gone"])
async def test_it_is_another_tag_from_when_steve_was_asked_last(
    world: World, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    """An answer says how it was when it was asked for, however long it takes to arrive and to be noted: by then the
    next driver may charge.
    """
    await linked(world)
    steve, pks = world.rooms.mirror._steve, list[int]()
    read = steve.tags

    async def slowly() -> list[Tag]:
        tag = world.steve.state.tag("A")
        assert tag is not None
        tag.note = "lost" if answer == "changed" else tag.note
        if answer == "gone":
            delete(world)
        found = await read()
        if answer != "gone":
            delete(world)
        world.steve.state.add_tag("A")
        world.clock.advance(minutes=1)
        pks.append(await charged(world))
        world.clock.advance(minutes=1)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(steve, "tags", slowly)
        await world.rooms.mirror.refresh()
    assert await settled(world, pks[0]) == ("held", "card_unlinked")


async def test_a_look_by_a_clock_that_was_ahead_hides_no_other_tag(world: World) -> None:
    """What was seen at a time still to come was not: the tag before ends when SteVe was asked last by a right clock."""
    await linked(world)
    world.clock.advance(hours=2)
    await world.rooms.mirror.refresh()
    world.clock.advance(hours=-2)
    world.clock.advance(minutes=1)
    await world.rooms.mirror.refresh()
    delete(world)
    world.clock.advance(minutes=1)
    world.steve.state.add_tag("A")
    pk = await charged(world)
    assert await settled(world, pk) == ("held", "card_unlinked")


async def test_a_tag_that_a_clock_ahead_found_gone_is_gone_since_a_right_one_did(world: World) -> None:
    """It is told once that it is gone, and when it is made again, the next driver, who charges before sync looks, does
    not do so at the cost of the one before.
    """
    await linked(world)
    delete(world)
    world.clock.advance(hours=2)
    await world.rooms.mirror.refresh()
    world.clock.advance(hours=-2)
    world.clock.advance(minutes=1)
    await world.rooms.mirror.refresh()
    assert len(await world.events("card.changed")) == 1
    world.clock.advance(minutes=1)
    world.steve.state.add_tag("A")
    pk = await charged(world)
    assert await settled(world, pk) == ("held", "card_unlinked")


@pytest.mark.parametrize("how", ["look", "command", "another tag"])
@pytest.mark.parametrize("then", [None, "THIRD", "OTHER"])
async def test_a_parent_that_a_clock_ahead_noted_keeps_no_other_out(world: World, then: str | None, how: str) -> None:
    """The one before it ends as well, whose end is still to come: it pays for nothing more, and no card's mirror waits
    for that. So it is where SteVe still has the one that was noted.
    """
    await below_adas(world)
    await world.link("OTHER", **(BOB_BY_NAME if then == "OTHER" else {}))
    await world.link("THIRD", **BOB_BY_NAME)
    tag = world.steve.state.tag("A")
    assert tag is not None
    world.clock.advance(hours=2)
    tag.parent_id_tag = "OTHER"
    await world.rooms.mirror.refresh()
    world.clock.advance(hours=-2)
    world.clock.advance(minutes=1)
    if how == "another tag":
        delete(world)
        world.steve.state.add_tag("A", parent_id_tag=then)
    elif how == "command":
        await do(world, ChangeParent(id_tag="A", parent_id_tag=then))
    else:
        tag.parent_id_tag = then
    await world.rooms.mirror.refresh()
    world.clock.advance(minutes=1)
    pk = await charged(world)
    assert await settled(world, pk) == (("synced", None) if then else ("held", "card_unlinked"))
    assert (await world.session(pk)).owner_customer == ("cus_bob" if then else None)


async def test_a_card_that_is_created_again_here_is_nobodys(world: World) -> None:
    """The command ends the link like a look at SteVe does."""
    await linked(world)
    delete(world)
    await world.rooms.mirror.refresh()
    world.clock.advance(minutes=1)
    view = await do(world, CreateCard(id_tag="A"))
    assert view.link is None
    pk = await charged(world)
    assert await settled(world, pk) == ("held", "card_unlinked")
    [told] = await world.events("card.unlinked")
    assert told.actorid == "ada"


async def test_what_was_linked_since_is_the_new_drivers(world: World) -> None:
    """An operator made the tag again, and linked it before sync looked: that link stays. What it charged before that is
    nobody's, and it is too late to undo the linking: the link before is another tag's.
    """
    await linked(world)
    delete(world)
    world.steve.state.add_tag("A")
    world.clock.advance(minutes=1)
    early = await charged(world)
    world.clock.advance(minutes=10)
    relinked = await do(world, RelinkCard(id_tag="A", **BOB, valid_from=world.clock()))
    assert await settled(world, early) == ("held", "card_unlinked")
    with pytest.raises(CannotUndo, match="was changed since"):
        await undo(world, relinked)
    pk = await charged(world)
    assert await settled(world, pk) == ("synced", None)
    assert (world.counted("sub_ada"), world.counted("sub_bob")) == ((0, 0), (4_000, 1))


async def test_a_link_with_an_end_to_come_ends_with_its_tag(world: World) -> None:
    """Who was to pay for twenty more days does not pay for the next driver meanwhile. Undone, they pay until then, and
    that can be undone as well.
    """
    await linked(world)
    end = world.clock() + timedelta(days=20)
    await do(world, UnlinkCard(id_tag="A", valid_to=end))
    world.clock.advance(minutes=1)
    await world.rooms.mirror.refresh()
    delete(world)
    world.clock.advance(minutes=1)
    world.steve.state.add_tag("A")
    pk = await charged(world)
    assert await settled(world, pk) == ("held", "card_unlinked")
    ends = [one.data["valid_to"] for one in await world.events("card.unlinked")]
    assert len(ends) == 2
    assert ends[1] < world.clock().isoformat() < ends[0]
    change = (await world.events("card.unlinked"))[-1].data["change_id"]
    again = await do(world, UndoChange(change_id=change))
    assert again.link is not None
    assert again.link.valid_to == end
    assert (await undo(world, again)).link is None


@pytest.mark.parametrize("what", ["another tag", "not known"])
async def test_undoing_an_unlinking_gives_nobody_the_next_drivers_tag(world: World, what: str) -> None:
    """Ada left, and SteVe has her number for somebody else since: she is not their payer by an undo. So it is refused
    where it was not noted which tag she left.
    """
    await linked(world)
    left = await do(world, UnlinkCard(id_tag="A"))
    world.clock.advance(minutes=1)
    await world.rooms.mirror.refresh()
    if what == "another tag":
        delete(world)
        world.steve.state.add_tag("A")
        await world.rooms.mirror.refresh()
    else:
        async with world.service.database.write() as tx:
            await tx.execute(sa.text("UPDATE sync.card_change SET after = after - 'ocpp_tag_pk'"))
    with pytest.raises(CannotUndo, match=what):
        await undo(world, left)
    pk = await charged(world)
    assert await settled(world, pk) == ("held", "card_unlinked")


async def test_a_tag_that_is_gone_keeps_who_paid_for_it(world: World) -> None:
    """Deleted, and not made again: nothing ends, and the same tag that is only out of sight for a look is the same."""
    await world.link("A")
    tag = world.steve.state.tag("A")
    assert tag is not None
    del world.steve.state.tags[tag.pk]
    await world.rooms.mirror.refresh()
    [card] = await world.rows("SELECT gone_at FROM sync.card")
    assert card.gone_at is not None
    world.steve.state.tags[tag.pk] = tag
    await world.rooms.mirror.refresh()
    assert await world.events("card.unlinked") == []
    pk = await charged(world)
    assert await settled(world, pk) == ("synced", None)
