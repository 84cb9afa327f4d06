"""Changing cards and links: nothing is lost in SteVe, and everything can be undone or says why not."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from services.sync.cards import problems, store
from services.sync.links.problems import AlreadyLinked, LagoSilent, NoActiveSubscription, OtherCustomer
from services.sync.steve.models import Tag
from shared.contracts.problem import Problem
from shared.contracts.request import Request
from shared.contracts.requests.sync import CardView, GetCard, LinkCard
from shared.contracts.requests.sync_cards import (
    BlockCard,
    ChangeCard,
    ChangeParent,
    CreateCard,
    PreviewLink,
    RelinkCard,
    SetExpiry,
    SnapshotCards,
    UnblockCard,
    UndoChange,
    UnlinkCard,
)
from tests.integration.services.sync.conftest import ADA, World, ago, effect, eventually


async def do(world: World, request: Request[Any]) -> CardView:
    """A command as the dispatcher executes it."""
    rooms, outside = world.rooms, effect(world)
    commands: dict[type, Callable[..., Any]] = {
        CreateCard: partial(rooms.cards.create_card, effect=outside),
        ChangeCard: rooms.cards.change_card,
        BlockCard: partial(rooms.cards.block_card, effect=outside),
        UnblockCard: partial(rooms.cards.unblock_card, effect=outside),
        ChangeParent: partial(rooms.cards.change_parent, effect=outside),
        SetExpiry: partial(rooms.cards.set_expiry, effect=outside),
        LinkCard: rooms.links.link_card,
        RelinkCard: rooms.links.relink_card,
        UnlinkCard: rooms.links.unlink_card,
        UndoChange: partial(rooms.undo.undo_change, effect=outside),
    }
    async with world.service.database.write() as tx:
        view = await commands[type(request)](tx, request, ADA)
    assert isinstance(view, CardView)
    return view


async def undo(world: World, view: CardView) -> CardView:
    assert isinstance(view.last_change_id, UUID)
    return await do(world, UndoChange(change_id=view.last_change_id))


@pytest.fixture
async def card(world: World) -> World:
    """A card with every field set."""
    state = world.steve.state
    state.add_tag("META")
    state.add_tag("04a1b2c3", parent_id_tag="META", expiry=world.clock() + timedelta(days=90), limit=3, note="fleet")
    await world.rooms.mirror.refresh()
    return world


async def test_a_block_keeps_every_field_and_the_limit(card: World) -> None:
    """Blocking changes the limit alone, and unblocking restores the one there was."""
    tag = card.steve.state.tag("04A1B2C3")
    assert tag is not None
    before = (tag.parent_id_tag, tag.expiry, tag.note)
    view = await do(card, BlockCard(id_tag="04A1B2C3", reason="lost"))
    assert tag.limit == 0
    assert (tag.parent_id_tag, tag.note) == ("META", "fleet")
    assert (view.block_reason, view.blocked_by, view.remembered_limit) == ("lost", "ada", 3)
    with pytest.raises(problems.AlreadyBlocked):
        await do(card, BlockCard(id_tag="04A1B2C3", reason="again"))
    await do(card, UnblockCard(id_tag="04A1B2C3"))
    assert tag.limit == 3
    assert tag.expiry is not None
    assert before[1] is not None
    assert abs(tag.expiry - before[1]) < timedelta(milliseconds=1)
    types = [one.type for one in await card.events("card.blocked", "card.unblocked", "card.changed")]
    await card.rooms.mirror.refresh()
    assert types == ["card.blocked", "card.unblocked"]
    assert len(await card.events("card.changed")) == 0


async def test_the_limit_survives_a_lost_answer(card: World) -> None:
    """SteVe blocked the card and its answer was lost, and then SteVe was silent: the limit is still known."""
    faults = card.steve.faults
    faults.set("drop_after_commit", path="/steve/api/v1/ocppTags/", methods=("PUT",), times=1)
    real = card.rooms.steve.find_tag
    asked = 0

    async def once(id_tag: str, *, urgent: bool = False) -> Any:  # noqa: ANN401
        nonlocal asked
        asked += 1
        if asked == 2:
            faults.set("down", methods=("GET",), times=1)
        return await real(id_tag, urgent=urgent)

    card.rooms.steve.find_tag = once  # type: ignore[method-assign]
    with pytest.raises(problems.OutcomeUnknown):
        await do(card, BlockCard(id_tag="04A1B2C3", reason="lost"))
    await card.rooms.mirror.refresh()
    view = await do(card, UnblockCard(id_tag="04A1B2C3"))
    assert view.steve is not None
    assert view.steve.max_active_transaction_count == 3


async def test_a_lost_answer_that_can_be_read_back_is_a_success(card: World) -> None:
    """When the answer to the PUT was lost and the tag stands as written, the block is done."""
    card.steve.faults.set("drop_after_commit", path="/steve/api/v1/ocppTags/", methods=("PUT",), times=1)
    view = await do(card, BlockCard(id_tag="04A1B2C3", reason="lost"))
    assert view.steve is not None
    assert view.steve.blocked


async def test_an_expired_card_is_told_and_not_papered_over(card: World) -> None:
    """SteVe does not write an expired card; with a new expiry it does."""
    tag = card.steve.state.tag("04A1B2C3")
    assert tag is not None
    tag.expiry = ago(days=1)
    with pytest.raises(problems.CardExpired):
        await do(card, BlockCard(id_tag="04A1B2C3", reason="lost"))
    assert tag.limit == 3
    with pytest.raises(problems.ExpiryPast):
        await do(card, SetExpiry(id_tag="04A1B2C3", expiry=ago(days=2)))
    await do(card, SetExpiry(id_tag="04A1B2C3", expiry=None))
    await do(card, BlockCard(id_tag="04A1B2C3", reason="lost"))
    assert tag.limit == 0


async def test_a_card_blocked_in_steve_needs_a_limit(world: World) -> None:
    """Nobody knows the limit of a card that was blocked in SteVe itself: it must be said."""
    world.steve.state.add_tag("B", limit=0)
    await world.rooms.mirror.refresh()
    with pytest.raises(problems.LimitUnknown):
        await do(world, UnblockCard(id_tag="B"))
    view = await do(world, UnblockCard(id_tag="B", limit=-1))
    assert view.steve is not None
    assert view.steve.max_active_transaction_count == -1


async def test_a_parent_is_changed_and_a_circle_refused(card: World) -> None:
    """A card goes under another one, never under one that stands below it."""
    card.steve.state.add_tag("OTHER")
    await card.rooms.mirror.refresh()
    view = await do(card, ChangeParent(id_tag="04A1B2C3", parent_id_tag="OTHER"))
    assert view.ancestors == ["OTHER"]
    with pytest.raises(problems.ParentCycle):
        await do(card, ChangeParent(id_tag="OTHER", parent_id_tag="04A1B2C3"))
    with pytest.raises(problems.ParentUnknown):
        await do(card, ChangeParent(id_tag="OTHER", parent_id_tag="NOBODY"))
    view = await undo(card, view)
    assert view.ancestors == ["META"]


async def test_a_circle_in_steve_is_reported_and_not_followed(world: World) -> None:
    """Parents that run in a circle end every walk up, and the card says so."""
    state = world.steve.state
    state.add_tag("X")
    state.add_tag("Y", parent_id_tag="X")
    x = state.tag("X")
    assert x is not None
    x.parent_id_tag = "Y"
    pk = world.charge("X").pk
    await world.turn()
    assert (await world.session(pk)).hold_reason == "card_unlinked"
    async with world.service.database.read() as tx:
        view = await store.view(tx, "X", world.clock())
    assert view is not None
    assert view.parent_cycle


async def test_a_card_is_created_once(world: World) -> None:
    """A new card comes with what this house knows of it; a second one in another spelling is refused."""
    view = await do(world, CreateCard(id_tag="new-1", display_name="Ada's car", card_type="keytag"))
    assert (view.id_tag, view.id_tag_as_sent, view.display_name) == ("NEW-1", "new-1", "Ada's car")
    with pytest.raises(problems.CardExists):
        await do(world, CreateCard(id_tag="NEW-1"))
    with pytest.raises(problems.ParentUnknown):
        await do(world, CreateCard(id_tag="NEW-2", parent_id_tag="NOBODY"))
    await world.rooms.mirror.refresh()
    assert len(await world.events("card.discovered")) == 1


@pytest.mark.parametrize("first", ["look", "command"])
async def test_a_card_that_a_look_sees_while_it_is_created_is_both(
    world: World, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """Neither sees what the other has not committed yet: whoever comes second waits, and finds the card there."""
    looks = list[asyncio.Task[None]]()
    waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

    async def the_other_waits() -> bool:
        return bool(await world.rows(waiting))

    async def look(tag: Tag, noted: asyncio.Event) -> None:
        async with world.service.database.write() as tx:
            await world.rooms.mirror.apply(tx, [tag], asked_at=world.clock(), whole=False)
            noted.set()
            if first == "look":
                await eventually(the_other_waits)

    place: tuple[Any, str] = (world.rooms.cards._writer, "create") if first == "look" else (store, "keep_change")
    real = getattr(*place)

    async def meanwhile(*given: Any, **named: Any) -> Any:  # noqa: ANN401
        done, noted = await real(*given, **named), asyncio.Event()
        tag = done or await world.rooms.steve.find_tag("NEW")
        assert tag is not None
        looks.append(asyncio.create_task(look(tag, noted)))
        await (noted.wait() if first == "look" else eventually(the_other_waits))
        return done

    monkeypatch.setattr(*place, meanwhile)
    view = await do(world, CreateCard(id_tag="NEW", cardholder="Ada"))
    await asyncio.gather(*looks)
    assert view.cardholder == "Ada"
    assert len(await world.events("card.discovered")) == 1


async def test_personal_values_do_not_travel(card: World) -> None:
    """A change of a name is told by the field's name; its values stay here, and undo finds them."""
    await do(card, ChangeCard(id_tag="04A1B2C3", changes={"cardholder": "Ada L.", "active": False}))
    view = await do(card, ChangeCard(id_tag="04A1B2C3", changes={"cardholder": "Bob M."}))
    told = [one.data for one in await card.events("card.changed")]
    assert "Ada" not in str(told)
    assert told[0]["personal_fields"] == ["cardholder"]
    assert told[0]["after"] == {"active": False}
    view = await undo(card, view)
    assert view.cardholder == "Ada L."
    assert not view.active


@pytest.mark.parametrize("moved", [False, True])
async def test_undo_is_refused_when_the_card_has_moved_on(card: World, moved: bool) -> None:  # noqa: FBT001
    """A block is undone by its inverse; after another change it is refused with the reason."""
    view = await do(card, BlockCard(id_tag="04A1B2C3", reason="lost"))
    if moved:
        await do(card, UnblockCard(id_tag="04A1B2C3", limit=5))
        with pytest.raises(problems.CannotUndo, match="not blocked as it was"):
            await undo(card, view)
        return
    view = await undo(card, view)
    assert view.steve is not None
    assert view.steve.max_active_transaction_count == 3
    undone = await card.rows("SELECT change_id FROM sync.card_change WHERE undone_by IS NOT NULL")
    with pytest.raises(problems.CannotUndo):
        await do(card, UndoChange(change_id=undone[0].change_id))


async def test_a_link_needs_an_active_subscription_of_that_customer(card: World) -> None:
    """Lago is asked first; its silence is not taken for a no."""
    link = LinkCard(id_tag="04A1B2C3", external_customer_id="cus_ada", external_subscription_id="sub_ada")
    with pytest.raises(NoActiveSubscription):
        await do(card, link.model_copy(update={"external_subscription_id": "sub_none"}))
    with pytest.raises(OtherCustomer):
        await do(card, link.model_copy(update={"external_customer_id": "cus_bob"}))
    card.lago.faults.add("down", count=1)
    with pytest.raises(LagoSilent):
        await do(card, link)
    view = await do(card, link)
    assert view.link is not None
    with pytest.raises(AlreadyLinked):
        await do(card, link)


async def test_a_preview_tells_of_links_that_have_ended(card: World) -> None:
    """A link that would begin before another one had ended is refused, and the preview says so in the same words."""
    await card.link("04A1B2C3", valid_from=ago(days=30))
    await do(card, UnlinkCard(id_tag="04A1B2C3", valid_to=ago(days=10)))
    link = LinkCard(
        id_tag="04A1B2C3",
        external_customer_id="cus_bob",
        external_subscription_id="sub_bob",
        valid_from=ago(days=20),
    )
    preview = await card.rooms.links.preview_link(PreviewLink(**link.model_dump()), ADA)
    with pytest.raises(AlreadyLinked) as refused:
        await do(card, link)
    assert preview.problems == [refused.value.detail]
    later = link.model_copy(update={"valid_from": ago(days=5)})
    assert (await card.rooms.links.preview_link(PreviewLink(**later.model_dump()), ADA)).problems == []


async def test_relinking_never_moves_a_session(card: World) -> None:
    """A session belongs to the link valid when it began, whatever happens to links afterwards."""
    await card.link("04A1B2C3", valid_from=ago(days=30))
    before = card.charge("04A1B2C3", 1_000, start_at=ago(days=2))
    running = card.charge("04A1B2C3", None, start_at=ago(hours=2))
    await card.turn()
    preview = await card.rooms.links.preview_link(
        PreviewLink(id_tag="04A1B2C3", external_customer_id="cus_bob", external_subscription_id="sub_bob"), ADA
    )
    assert preview.open_sessions == [f"main:{running.pk}"]
    assert preview.problems == []
    await do(
        card,
        RelinkCard(
            id_tag="04A1B2C3",
            external_customer_id="cus_bob",
            external_subscription_id="sub_bob",
            valid_from=ago(hours=1),
        ),
    )
    stop_wh = int(running.start_value) + 2_000
    card.steve.state.stop_by_station(
        charge_box_id="CP-1", pk=running.pk, stop_at=ago(minutes=30), stop_wh=stop_wh, reason=None
    )
    card.charge("04A1B2C3", 4_000, start_at=ago(minutes=20), charge_box_id="CP-2")
    await card.turn()
    assert card.counted("sub_ada") == (3_000, 2)
    assert card.counted("sub_bob") == (4_000, 1)
    assert before.stop is not None


async def test_an_unused_link_is_taken_back_whole(card: World) -> None:
    """Undoing a link, a relink and an unlink leads back to what was, where nobody was billed in between."""
    linked = await do(
        card,
        LinkCard(
            id_tag="04A1B2C3",
            external_customer_id="cus_ada",
            external_subscription_id="sub_ada",
            valid_from=ago(days=3),
        ),
    )
    relinked = await do(
        card, RelinkCard(id_tag="04A1B2C3", external_customer_id="cus_bob", external_subscription_id="sub_bob")
    )
    assert relinked.link is not None
    assert relinked.link.external_subscription_id == "sub_bob"
    card.clock.advance(seconds=1)
    back = await undo(card, relinked)
    assert back.link == linked.link
    unlinked = await do(card, UnlinkCard(id_tag="04A1B2C3"))
    assert unlinked.link is None
    card.clock.advance(seconds=1)
    again = await undo(card, unlinked)
    assert again.link == linked.link
    card.clock.advance(seconds=1)
    gone = await undo(card, again)
    assert gone.link is None
    assert [one.type for one in await card.events("card.linked", "card.relinked", "card.unlinked")] == [
        "card.linked",
        "card.relinked",
        "card.relinked",
        "card.unlinked",
        "card.linked",
        "card.unlinked",
    ]


async def test_an_unlink_undone_by_mistake_is_back_with_its_end(card: World) -> None:
    """Whoever left on the 1st has left on the 1st again, also where the link was used: what a station uploads later of
    the time in between is not billed to them. Undone once more, the link goes on as it did.
    """
    await card.link("04A1B2C3", valid_from=ago(days=30))
    card.charge("04A1B2C3", 1_000, start_at=ago(days=20))
    await card.turn()
    left_at = ago(days=9)
    left = await do(card, UnlinkCard(id_tag="04A1B2C3", valid_to=left_at))
    mistaken = await undo(card, left)
    mended = await undo(card, mistaken)
    [kept] = await card.rows("SELECT valid_from, valid_to FROM sync.link")
    assert kept.valid_to == left_at
    [*_, told] = await card.events("card.unlinked")
    assert told.data["valid_to"] == left_at.isoformat().replace("+00:00", "Z")
    late = card.charge("04A1B2C3", 5_000, start_at=ago(days=5))
    await card.turn()
    assert card.counted() == (1_000, 1)
    assert (await card.session(late.pk)).hold_reason == "card_unlinked"
    [before] = await card.rows("SELECT valid_from FROM sync.link")
    again = await undo(card, mended)
    assert again.link is not None
    assert (again.link.valid_from, again.link.valid_to) == (before.valid_from, None)


async def test_what_is_unknown_is_refused(world: World) -> None:
    """A card that nobody has is a refusal that says what to do."""
    with pytest.raises(Problem, match="Check the spelling"):
        await do(world, BlockCard(id_tag="NOBODY", reason="x"))
    with pytest.raises(problems.ChangeUnknown):
        await do(world, UndoChange(change_id=UUID(int=7)))
    assert GetCard(id_tag=" nobody ").id_tag == "NOBODY"


async def test_a_snapshot_says_which_events_it_includes(card: World) -> None:
    """A reader starts from all cards and goes on with the events above each one's version."""
    await do(card, BlockCard(id_tag="META", reason="lost"))
    first = await card.rooms.card_queries.snapshot_cards(SnapshotCards(limit=1), ADA)
    rest = await card.rooms.card_queries.snapshot_cards(SnapshotCards(cursor=first.next_cursor), ADA)
    found = {one.id_tag: one for one in [*first.cards, *rest.cards]}
    assert list(found) == ["04A1B2C3", "META"]
    assert found["META"].blocked
    last = [one.subjectversion for one in await card.events() if one.subject == "card/META"][-1]
    assert found["META"].subject_version == last
