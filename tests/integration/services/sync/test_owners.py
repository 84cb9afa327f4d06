"""A held session that is somebody's already: nobody else is billed for it by a card and a date."""

from datetime import timedelta
from typing import Any, cast

import pytest

from deploy.demo.lago import lifecycle
from services.sync.links import store as links
from services.sync.links.rules import Owner, resolve
from shared.contracts.problem import Invalid
from shared.contracts.requests.sync import LinkCard
from shared.contracts.requests.sync_cards import ChangeParent, PreviewLink, RelinkCard, UnlinkCard
from shared.contracts.requests.sync_work import OwnerChanged, ReleaseHeld
from shared.database.engine import Read
from tests.integration.services.sync.conftest import ADA, World, ago
from tests.integration.services.sync.test_cards import do as change
from tests.integration.services.sync.test_cards import undo
from tests.integration.services.sync.test_held import do

ADA_BY_NAME = {"external_customer_id": "cus_ada", "external_subscription_id": "sub_ada"}
BOB = {"external_customer_id": "cus_bob", "external_subscription_id": "sub_bob"}


async def invoiced(world: World) -> int:
    """A session of Ada's, of nine kWh, that was not seen before her last invoice; her link ended with it."""
    await world.link("A")
    pk = world.charge("A", 9_000, start_at=ago(hours=2)).pk
    lifecycle.terminate(world.lago.state, "sub_ada")
    await world.turn()
    assert await world.rooms.follow.follow() == 1
    row = await world.session(pk)
    assert (row.hold_reason, row.owner_customer) == ("subscription_invoiced", "cus_ada")
    world.clock.advance(minutes=1)
    return pk


async def test_a_card_that_is_given_on_bills_nobody_for_the_one_before(world: World) -> None:
    """Neither with the link nor by its card and a date; what never had an owner is released, and alone counted before.
    Named, it takes a word of its own, and both customers are told.
    """
    pk = await invoiced(world)
    mine = world.charge("A", 500, charge_box_id="CP-2", start_at=world.clock()).pk
    world.clock.advance(minutes=6)
    await world.turn()
    assert (await world.session(mine)).hold_reason == "card_unlinked"
    given: dict[str, Any] = {"id_tag": "A", **BOB, "valid_from": world.clock(), "release_from": ago(days=1)}
    preview = await world.rooms.links.preview_link(PreviewLink(**given), ADA)
    assert (preview.held_to_release, preview.held_wh, preview.problems) == (1, 500, [])
    async with world.service.database.write() as tx:
        await world.rooms.linking.link_card(tx, LinkCard(**given), ADA)
    await world.turn()
    assert (await do(world, ReleaseHeld(id_tag="A", since=ago(days=1)))).count == 0
    named = ReleaseHeld(sessions=[f"main:{pk}"])
    refused = (await do(world, named)).refused[f"main:{pk}"]
    assert "cus_ada's" in refused
    assert "cus_bob" in refused
    await world.turn()
    assert world.counted("sub_bob") == (500, 1)
    assert (await world.session(pk)).owner_customer == "cus_ada"
    changed = await do(world, named.model_copy(update={"change_owner": True}))
    assert changed.owners_changed == [
        OwnerChanged(session=f"main:{pk}", previous_external_customer_id="cus_ada", external_customer_id="cus_bob")
    ]
    await world.turn()
    assert world.counted("sub_bob") == (9_500, 2)


async def test_another_subscription_of_the_same_customer_takes_a_name_only(world: World) -> None:
    """Whoever pays stays the same, so that nothing has to be said but which session is meant."""
    pk = await invoiced(world)
    lifecycle.create_subscription(
        world.lago.state, external_id="sub_new", external_customer_id="cus_ada", plan_code="ev"
    )
    await world.link("A", "cus_ada", "sub_new", valid_from=world.clock())
    changed = await do(world, ReleaseHeld(sessions=[f"main:{pk}"]))
    assert (changed.sessions, changed.owners_changed) == ([f"main:{pk}"], [])
    assert (await world.session(pk)).owner_subscription == "sub_new"


@pytest.mark.parametrize("ends", [False, True])
async def test_who_is_linked_apart_is_not_concerned_by_a_card_and_a_date(world: World, ends: bool) -> None:  # noqa: FBT001
    """What is held of a card below is released by its parent's card and link only while it has no link of its own, also
    one with an end to come: else it would be billed to whom that one says, whom nobody confirmed.
    """
    await world.link("PARENT", valid_from=ago(hours=1))
    for number, child in enumerate(("BOBS", "CHILD")):
        world.steve.state.add_tag(child, parent_id_tag="PARENT")
        world.charge(child, 1_000 + number, start_at=ago(days=3), charge_box_id=f"CP-{child}")
    await world.turn()
    await world.link("BOBS", "cus_bob", "sub_bob", valid_from=world.clock() - timedelta(minutes=1))
    if ends:
        await change(world, UnlinkCard(id_tag="BOBS", valid_to=world.clock() + timedelta(days=20)))
    given: dict[str, Any] = {
        "id_tag": "PARENT",
        **ADA_BY_NAME,
        "valid_from": world.clock(),
        "release_from": ago(days=4),
    }
    preview = await world.rooms.links.preview_link(PreviewLink(**given), ADA)
    assert (preview.children, preview.held_to_release) == (["CHILD"], 1)
    assert (await do(world, ReleaseHeld(id_tag="PARENT", since=ago(days=4)))).count == 1
    await change(world, UnlinkCard(id_tag="PARENT"))
    world.clock.advance(seconds=1)
    async with world.service.database.write() as tx:
        await world.rooms.linking.link_card(tx, LinkCard(**given | {"valid_from": world.clock()}), ADA)
    await world.turn()
    assert (world.counted("sub_ada"), world.counted("sub_bob")) == ((1_001, 1), (0, 0))


@pytest.mark.parametrize("relinked", [False, True])
async def test_undoing_a_link_that_a_release_used_ends_it(world: World, relinked: bool) -> None:  # noqa: FBT001
    """A session of before the link was released by it: who asks by what it was billed finds the link."""
    world.steve.state.add_tag("A")
    if relinked:
        await world.link("A", "cus_ada", "sub_ada", valid_from=ago(days=1))
    pk = world.charge("A", 4_000, start_at=ago(days=2)).pk
    await world.turn()
    assert (await world.session(pk)).hold_reason == "card_unlinked"
    since = world.clock()
    view = await change(world, (RelinkCard if relinked else LinkCard)(id_tag="A", **BOB, valid_from=since))
    assert (await do(world, ReleaseHeld(sessions=[f"main:{pk}"]))).count == 1
    await world.turn()
    assert world.counted("sub_bob") == (4_000, 1)
    world.clock.advance(minutes=1)
    await undo(world, view)
    [link] = await world.rows("SELECT * FROM sync.link WHERE external_subscription_id = 'sub_bob'")
    assert link.valid_from == since
    assert link.valid_to > since


async def test_who_changes_an_owner_names_the_session(world: World) -> None:
    """A card and a date are no names."""
    with pytest.raises(Invalid):
        await do(world, ReleaseHeld(id_tag="A", since=ago(days=1), change_owner=True))


async def test_whose_card_it_is_is_read_at_one_moment(world: World) -> None:
    """A card whose parent changes meanwhile is the customer's before or the one's after, and not nobody's."""
    await world.link("ADAS")
    await world.link("BOBS", "cus_bob", "sub_bob")
    world.steve.state.add_tag("A", parent_id_tag="ADAS")
    await world.rooms.mirror.refresh()
    changed = list[Any]()

    class _Changing:
        """The parent changes after whatever is read first."""

        async def execute(self, *given: Any) -> Any:  # noqa: ANN401 - a connection's
            found = await tx.execute(*given)
            if not changed:
                changed.append(await change(world, ChangeParent(id_tag="A", parent_id_tag="BOBS")))
            return found

    async with world.service.database.read() as tx:
        found = await links.ownership(cast("Read", _Changing()), ["A"])
    assert changed
    owner = resolve("A", world.clock(), found.links, found.parents)
    assert isinstance(owner, Owner)
    assert owner.external_customer_id in {"cus_ada", "cus_bob"}
