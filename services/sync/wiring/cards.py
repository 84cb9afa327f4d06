"""The mirror of SteVe's tags, who they belong to, and what may be done with them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from services.sync.cards.changing import Changes
from services.sync.cards.commands import Cards
from services.sync.cards.handlers import CardQueries
from services.sync.cards.mirror import Mirror
from services.sync.cards.noting import Notes
from services.sync.cards.policy import Policy
from services.sync.cards.writing import TagWriter
from services.sync.links.follow import Follow
from services.sync.links.handlers import Links
from services.sync.links.undo import Undo
from services.sync.runs.loop import Loop
from services.sync.settings import SyncSettings
from services.sync.wiring.upstreams import Upstreams
from shared.contracts.identity import Cause
from shared.contracts.requests import sync as requests
from shared.contracts.requests import sync_cards as card_requests
from shared.database.engine import Write
from shared.runtime.service import Service

FOLLOW_EVERY_S = 30.0


@dataclass(frozen=True)
class CardRooms:
    mirror: Mirror
    card_queries: CardQueries
    cards: Cards
    policy: Policy
    links: Links
    undo: Undo
    follow: Follow


def wire_cards(service: Service, settings: SyncSettings, upstreams: Upstreams) -> CardRooms:
    database, outbox, dispatcher = service.database, service.outbox, service.dispatcher
    clock, new_id, steve = service.clock, service.new_id, upstreams.steve

    async def another_tag(tx: Write, row: Any, found: Mapping[str, Any], cause: Cause) -> None:  # noqa: ANN401 - a row of card
        await links.begin_with_tag(tx, row, found, cause)

    # Somebody waits, so it is asked even while the circuit is open.
    same_steve = partial(upstreams.identity.check, urgent=True)
    mirror = Mirror(
        steve,
        database,
        outbox,
        steve_id=settings.steve_id,
        clock=clock,
        new_id=new_id,
        same_steve=upstreams.identity.check,
        object_to=partial(upstreams.health.object_to, "steve", "tags"),
        another_tag=another_tag,
    )
    service.parts.append(Loop("cards.mirror", mirror.refresh, settings.cards_every_s))
    queries = CardQueries(database, steve, clock, same_steve=same_steve)
    dispatcher.query(requests.GetCard, queries.get_card)
    dispatcher.query(requests.SearchCards, queries.search_cards)
    dispatcher.query(requests.ReadCardInSteve, queries.read_card_in_steve)
    dispatcher.query(card_requests.SnapshotCards, queries.snapshot_cards)

    enforce = settings.card_policy == "enforce"
    writer = TagWriter(steve, clock, same_steve=same_steve, urgent=True)
    notes = Notes(outbox, clock=clock, new_id=new_id, another_tag=another_tag)
    changes = Changes(database, writer, notes, outbox, enforce=enforce, clock=clock)
    cards = Cards(changes, writer, notes, outbox, enforce=enforce, clock=clock)
    dispatcher.effect(card_requests.CreateCard, cards.create_card)
    dispatcher.command(card_requests.ChangeCard, cards.change_card)
    dispatcher.effect(card_requests.BlockCard, cards.block_card)
    dispatcher.effect(card_requests.UnblockCard, cards.unblock_card)
    dispatcher.effect(card_requests.ChangeParent, cards.change_parent)
    dispatcher.effect(card_requests.SetExpiry, cards.set_expiry)
    # Nobody waits for the policy: a SteVe that fails is left alone by it.
    patient = TagWriter(steve, clock, same_steve=upstreams.identity.check, urgent=False)
    patient_changes = Changes(database, patient, notes, outbox, enforce=enforce, clock=clock)
    policy = Policy(database, patient_changes, clock=clock, new_id=new_id)
    if enforce:
        service.parts.append(Loop("cards.policy", policy.enforce, settings.cards_every_s))

    links = Links(upstreams.lago, database, changes, outbox, clock=clock, new_id=new_id)
    undo = Undo(changes, links, clock)
    dispatcher.command(card_requests.UnlinkCard, links.unlink_card)
    dispatcher.effect(card_requests.UndoChange, undo.undo_change)
    dispatcher.query(card_requests.PreviewLink, links.preview_link)
    dispatcher.query(card_requests.GetPortalUrl, links.get_portal_url)
    dispatcher.query(requests.SearchCustomers, links.search_customers)
    dispatcher.query(requests.GetSubscription, links.get_subscription)
    follow = Follow(database, upstreams.subscriptions, changes, links, clock=clock, new_id=new_id)
    service.parts.append(Loop("links.follow", follow.follow, FOLLOW_EVERY_S))
    return CardRooms(mirror, queries, cards, policy, links, undo, follow)
