"""Gathering what is known about a card: everybody is asked at once, and silence is kept as silence."""

import asyncio
from typing import Final, TypeVar

from services.admin_api.answers import Answered, Part, Silent, silent
from services.admin_api.asking import Ask
from services.admin_api.diagnosis.model import Evidence, SteveNow
from shared.contracts.identity import id_tag_key
from shared.contracts.requests.audit import EntryPage, EntryView, SearchEntries
from shared.contracts.requests.preauth import ListPairings, PairingList, PairingView, SearchTaps, TapPage, TapView
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


async def gather(ask: Ask, id_tag: str) -> Evidence:
    """Ask sync, preauth and audit about a card, and through sync SteVe and Lago. Never raises for silence."""
    card = id_tag_key(id_tag)
    (known, subscription), steve, sessions, taps, pairings, changes = await asyncio.gather(
        _card_and_subscription(ask, card),
        ask.part(ReadCardInSteve(id_tag=card)),
        ask.part(SearchSessions(id_tag=card, limit=LAST_SESSIONS)),
        ask.part(SearchTaps(id_tag=card, limit=LAST_TAPS)),
        ask.part(ListPairings(armed_only=True, limit=200)),
        ask.part(SearchEntries(subject=f"card/{card}", limit=LAST_CHANGES)),
    )
    return Evidence(
        id_tag=card,
        now=ask.clock(),
        known=known,
        steve=steve_now(steve),
        subscription=subscription,
        sessions=_sessions(sessions),
        taps=_taps(taps),
        gaps=[] if isinstance(taps, Silent) else taps.value.gaps,
        pairings=_pairings(pairings),
        changes=_entries(changes),
    )


async def _card_and_subscription(
    ask: Ask, card: str
) -> tuple[Part[CardView | None], Part[SubscriptionView | None] | None]:
    known = await ask.part_or_none(GetCard(id_tag=card))
    if isinstance(known, Silent) or known.value is None or known.value.link is None:
        return known, None
    link = known.value.link
    asked = await ask.part(GetSubscription(external_subscription_id=link.external_subscription_id))
    return known, subscription_now(asked)


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


def _sessions(asked: Part[SessionPage]) -> Part[list[SessionView]]:
    return asked if isinstance(asked, Silent) else Answered(value=asked.value.sessions, as_of=asked.as_of)


def _taps(asked: Part[TapPage]) -> Part[list[TapView]]:
    return asked if isinstance(asked, Silent) else Answered(value=asked.value.taps, as_of=asked.as_of)


def _pairings(asked: Part[PairingList]) -> Part[list[PairingView]]:
    return asked if isinstance(asked, Silent) else Answered(value=asked.value.pairings, as_of=asked.as_of)


def _entries(asked: Part[EntryPage]) -> Part[list[EntryView]]:
    return asked if isinstance(asked, Silent) else Answered(value=asked.value.entries, as_of=asked.as_of)
