"""What a command finds changed in SteVe since the last look."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from services.sync.cards import store
from services.sync.steve.models import Tag
from shared.contracts.requests.sync_cards import (
    BlockCard,
    ChangeParent,
    RelinkCard,
    SetExpiry,
)
from shared.database.engine import Read
from shared.runtime.clock import utc_now
from tests.integration.services.sync.conftest import World
from tests.integration.services.sync.test_another_tag import (
    BOB,
    BOB_BY_NAME,
    below_adas,
    charged,
    delete,
    linked,
    settled,
)
from tests.integration.services.sync.test_cards import do

CHANGES = {
    "blocked": BlockCard(id_tag="A", reason="lost"),
    "expires": SetExpiry(id_tag="A", expiry=utc_now() + timedelta(days=30)),
    "below another": ChangeParent(id_tag="A", parent_id_tag="OTHER"),
}


@pytest.mark.parametrize("change", list(CHANGES))
@pytest.mark.parametrize("how", ["own link", "parent"])
async def test_a_change_before_sync_looked_finds_that_it_is_another_tag(world: World, how: str, change: str) -> None:
    """Whoever changes the tag in SteVe reads it first: what the one before had is over then, too."""
    await (linked(world) if how == "own link" else below_adas(world))
    await world.link("OTHER", **BOB_BY_NAME)
    delete(world)
    world.clock.advance(minutes=10)
    world.steve.state.add_tag("A")
    pk = await charged(world)
    world.clock.advance(minutes=10)
    await do(world, CHANGES[change])
    assert await settled(world, pk) == ("held", "card_unlinked")
    # Once, as of any change in SteVe; its new parent where the command gives it none.
    [told] = [one for one in await world.events("card.changed") if one.actorid == "steve"]
    assert "ocpp_tag_pk" in told.data["after"]
    assert ("parent_id_tag" in told.data["after"]) == (how == "parent" and change != "below another")


@pytest.mark.parametrize("hours", [0, 2])
async def test_a_parent_that_a_command_finds_in_steve_pays_from_then_on(world: World, hours: int) -> None:
    """Changed in SteVe's own pages before the tag is written to, where no look had noted it, or by a clock ahead."""
    await below_adas(world)
    await world.link("OTHER", **BOB_BY_NAME)
    tag = world.steve.state.tag("A")
    assert tag is not None
    tag.parent_id_tag = "OTHER"
    if hours:
        world.clock.advance(hours=hours)
        await world.rooms.mirror.refresh()
        world.clock.advance(hours=-hours)
    world.clock.advance(minutes=1)
    await do(world, CHANGES["expires"])
    await world.rooms.mirror.refresh()
    world.clock.advance(minutes=1)
    pk = await charged(world)
    assert await settled(world, pk) == ("synced", None)
    assert (await world.session(pk)).owner_customer == "cus_bob"
    told = [one.data["after"].get("parent_id_tag") for one in await world.events("card.changed")]
    assert told.count("OTHER") == 1


async def test_a_parent_that_a_command_puts_back_pays_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given another one in SteVe's own pages after the tag was read, which a look notes, and before all of it is
    written: SteVe has the first one again, which is told, and it pays.
    """
    await below_adas(world)
    await world.link("OTHER")
    tag = world.steve.state.tag("A")
    assert tag is not None
    world.clock.advance(minutes=1)
    read = world.rooms.cards._writer.read

    async def then_changed(id_tag: str) -> Tag:
        found = await read(id_tag)
        tag.parent_id_tag = "OTHER"
        await world.rooms.mirror.refresh()
        return found

    await world.link("PARENT2", **BOB_BY_NAME)
    tag.parent_id_tag = "PARENT2"
    monkeypatch.setattr(world.rooms.cards._writer, "read", then_changed)
    await do(world, CHANGES["expires"])
    monkeypatch.undo()
    assert tag.parent_id_tag == "PARENT2"
    await world.rooms.mirror.refresh()
    world.clock.advance(minutes=1)
    pk = await charged(world)
    assert await settled(world, pk) == ("synced", None)
    assert (await world.session(pk)).owner_customer == "cus_bob"
    told = [one.data for one in await world.events("card.changed") if "parent_id_tag" in one.data["after"]]
    assert [(one["before"]["parent_id_tag"], one["after"]["parent_id_tag"]) for one in told] == [
        ("PARENT", "OTHER"),
        ("OTHER", "PARENT2"),
    ]


async def test_a_new_parent_replaces_the_one_that_stands_in_steve(world: World) -> None:
    """Changed in SteVe's own pages before: an undo gives that one back, and what was tried before is not told twice."""
    await below_adas(world)
    for id_tag in ("OTHER", "THIRD"):
        await world.link(id_tag, **BOB_BY_NAME)
    tag = world.steve.state.tag("A")
    assert tag is not None
    tag.parent_id_tag = "OTHER"
    await do(world, ChangeParent(id_tag="A", parent_id_tag="THIRD"))
    # As after a try whose outcome was unknown.
    tag.parent_id_tag = "PARENT"
    await do(world, ChangeParent(id_tag="A", parent_id_tag="PARENT"))
    told = [(one.data["before"], one.data["after"]) for one in await world.events("card.parent_changed")]
    assert told == [("OTHER", "THIRD"), ("THIRD", "PARENT")]
    assert [one for one in await world.events("card.changed") if "parent_id_tag" in one.data["after"]] == []


async def test_a_look_while_steve_is_asked_for_a_command_finds_the_other_tag_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was linked since the tag was made again stays, whichever of the two notes first that it is another one."""
    await linked(world)
    delete(world)
    world.steve.state.add_tag("A")
    world.clock.advance(minutes=1)
    await do(world, RelinkCard(id_tag="A", **BOB, valid_from=world.clock()))
    world.clock.advance(minutes=1)
    read = world.rooms.cards._writer.read

    async def and_look(id_tag: str) -> Tag:
        tag = await read(id_tag)
        await world.rooms.mirror.refresh()
        return tag

    with monkeypatch.context() as patched:
        patched.setattr(world.rooms.cards._writer, "read", and_look)
        await do(world, CHANGES["expires"])
    world.clock.advance(minutes=1)
    pk = await charged(world)
    assert await settled(world, pk) == ("synced", None)
    assert (world.counted("sub_ada"), world.counted("sub_bob")) == ((0, 0), (4_000, 1))


async def test_an_answer_of_before_does_not_undo_a_command(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor where the command is done while the answer is being noted: the new tag's parent is the one that it was given
    last.
    """
    await below_adas(world)
    await world.link("OTHER", **BOB_BY_NAME)
    delete(world)
    world.steve.state.add_tag("A", parent_id_tag="PARENT")
    read = store.rows

    async def later(tx: Read, id_tags: Sequence[str] | None = None) -> dict[str, Any]:
        found = await read(tx, id_tags)
        monkeypatch.undo()
        await do(world, ChangeParent(id_tag="A", parent_id_tag="OTHER"))
        world.clock.advance(minutes=1)
        return found

    monkeypatch.setattr(store, "rows", later)
    await world.rooms.mirror.refresh()
    pk = await charged(world)
    assert await settled(world, pk) == ("synced", None)
    assert (await world.session(pk)).owner_customer == "cus_bob"


async def test_a_tag_that_a_command_finds_back_in_steve_is_told(world: World) -> None:
    """The next look finds it noted, and what was told last is that SteVe has it no longer."""
    await linked(world)
    tag = world.steve.state.tag("A")
    assert tag is not None
    delete(world)
    await world.rooms.mirror.refresh()
    world.steve.state.tags[tag.pk] = tag
    await do(world, CHANGES["blocked"])
    await world.rooms.mirror.refresh()
    told = [one.data["after"] for one in await world.events("card.changed")]
    assert told == [{"in_steve": False}, {"in_steve": True}]
