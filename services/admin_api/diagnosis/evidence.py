"""Gathering what is known about a card: everybody is asked at once, and silence is kept as silence."""

import asyncio
from datetime import datetime, timedelta
from typing import Final, TypeVar

from services.admin_api.answers import Answered, Part, Silent, silent
from services.admin_api.asking import Ask
from services.admin_api.diagnosis.model import Evidence, SteveNow
from shared.contracts.identity import id_tag_key
from shared.contracts.request import MAX_ROWS
from shared.contracts.requests.audit import EntryPage, EntryView, SearchEntries
from shared.contracts.requests.preauth import (
    ChargerView,
    GetCharger,
    ListPairings,
    PairingList,
    PairingView,
    SearchTaps,
    TapPage,
    TapView,
)
from shared.contracts.requests.sync import (
    CardView,
    GetCard,
    GetSubscription,
    ReadCardInSteve,
    SearchSessions,
    SessionPage,
    SessionView,
    SteveAnswer,
    SubscriptionAnswer,
    SubscriptionView,
)

T = TypeVar("T")

LAST_SESSIONS: Final = 10
LAST_TAPS: Final = 20
LAST_CHANGES: Final = 50
NEAR: Final = timedelta(minutes=30)
"""A tap that somebody remembers is looked for so far around the time they name."""
FOLLOWS: Final = timedelta(minutes=5)
"""A session that begins so long after a tap may be of it; later ones say nothing about that tap."""


async def gather(ask: Ask, id_tag: str, *, charger: str | None = None, at: datetime | None = None) -> Evidence:
    """Ask sync, preauth and audit about a card, and through sync SteVe and Lago. Never raises for silence.

    :param charger: what happened there, instead of anywhere.
    :param at: what happened around then, instead of last.
    """
    card = id_tag_key(id_tag)
    (known, above, subscription), steve, sessions, (taps, box), pairings, changes = await asyncio.gather(
        _card_and_subscription(ask, card),
        ask.part(ReadCardInSteve(id_tag=card)),
        ask.part(SearchSessions(id_tag=card, charge_box_id=charger, limit=LAST_SESSIONS if at is None else MAX_ROWS)),
        _taps_and_charger(ask, card, charger, at),
        ask.part(ListPairings(armed_only=True, limit=200)),
        ask.part(SearchEntries(subject=f"card/{card}", limit=LAST_CHANGES)),
    )
    return Evidence(
        id_tag=card,
        now=ask.clock(),
        known=known,
        steve=steve_now(steve),
        subscription=subscription,
        sessions=_sessions(sessions, _until(taps, at)),
        taps=_taps(taps, at),
        charger=box,
        at=at,
        gaps=[] if isinstance(taps, Silent) else taps.value.gaps,
        pairings=_pairings(pairings),
        changes=_entries(changes),
        above=above,
    )


async def _card_and_subscription(
    ask: Ask, card: str
) -> tuple[Part[CardView | None], Part[CardView | None] | None, Part[SubscriptionView | None] | None]:
    """The card, where it has no link the nearest linked one above it, and what Lago says of the subscription."""
    known = await ask.part_or_none(GetCard(id_tag=card))
    if isinstance(known, Silent) or known.value is None:
        return known, None, None
    above = None if known.value.link is not None else await _linked_above(ask, known.value)
    linked = known if above is None else above
    if isinstance(linked, Silent) or linked.value is None or linked.value.link is None:
        return known, above, None
    asked = await ask.part(GetSubscription(external_subscription_id=linked.value.link.external_subscription_id))
    return known, above, subscription_now(asked)


async def _linked_above(ask: Ask, card: CardView) -> Part[CardView | None] | None:
    for name in card.ancestors:
        above = await ask.part_or_none(GetCard(id_tag=name))
        if isinstance(above, Silent) or (above.value is not None and above.value.link is not None):
            return above
    return None


async def _taps_and_charger(
    ask: Ask, card: str, charger: str | None, at: datetime | None
) -> tuple[Part[TapPage], Part[ChargerView | None] | None]:
    request = SearchTaps(id_tag=card, charge_box_id=charger, limit=LAST_TAPS)
    if at is not None:
        window = {"since": at - NEAR, "until": at + NEAR, "limit": MAX_ROWS}
        request = SearchTaps(id_tag=card, charge_box_id=charger, **window)
    taps = await ask.part(request)
    ordered = _taps(taps, at)
    where = ordered.value[0].charge_box_id if isinstance(ordered, Answered) and ordered.value else charger
    return taps, await ask.part_or_none(GetCharger(charge_box_id=where)) if where else None


def _until(asked: Part[TapPage], at: datetime | None) -> datetime | None:
    """Sessions that began later say nothing about the tap that is asked about; None: it is the newest."""
    if at is None:
        return None
    ordered = _taps(asked, at)
    tapped_at = ordered.value[0].tapped_at if isinstance(ordered, Answered) and ordered.value else at
    return tapped_at + FOLLOWS


def steve_now(asked: Part[SteveAnswer]) -> Part[SteveNow]:
    """SteVe's own answer; that sync answered for it is not the same."""
    if isinstance(asked, Silent):
        return asked
    reply = asked.value
    if not reply.answered:
        return silent("SteVe", reply.problem or "no reason was given", reply.asked_at)
    return Answered(value=SteveNow(card=reply.card, parent=reply.parent), as_of=reply.asked_at)


def subscription_now(asked: Part[SubscriptionAnswer]) -> Part[SubscriptionView | None]:
    """Lago's own answer."""
    if isinstance(asked, Silent):
        return asked
    reply = asked.value
    if not reply.answered:
        return silent("Lago", reply.problem or "no reason was given", reply.asked_at)
    return Answered[SubscriptionView | None](value=reply.subscription, as_of=reply.asked_at)


def _sessions(asked: Part[SessionPage], until: datetime | None) -> Part[list[SessionView]]:
    if isinstance(asked, Silent):
        return asked
    kept = [each for each in asked.value.sessions if until is None or each.started_at <= until]
    return Answered(value=kept[:LAST_SESSIONS], as_of=asked.as_of)


def _taps(asked: Part[TapPage], at: datetime | None) -> Part[list[TapView]]:
    """The one that is asked about first: the newest, or the one nearest to `at`."""
    if isinstance(asked, Silent):
        return asked
    taps = asked.value.taps
    if at is not None:
        taps = sorted(taps, key=lambda tap: abs(tap.tapped_at - at))
    return Answered(value=taps[:LAST_TAPS], as_of=asked.as_of)


def _pairings(asked: Part[PairingList]) -> Part[list[PairingView]]:
    return asked if isinstance(asked, Silent) else Answered(value=asked.value.pairings, as_of=asked.as_of)


def _entries(asked: Part[EntryPage]) -> Part[list[EntryView]]:
    return asked if isinstance(asked, Silent) else Answered(value=asked.value.entries, as_of=asked.as_of)
