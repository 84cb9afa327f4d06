"""What the stubs answer when all is well with one card."""

from datetime import UTC, datetime, timedelta
from typing import Any

from shared.contracts.requests.audit import EntryPage, SearchEntries
from shared.contracts.requests.preauth import (
    GetCharger,
    GetInterception,
    InterceptionState,
    ListPairings,
    PairingList,
    SearchTaps,
    TapPage,
)
from shared.contracts.requests.sync import (
    CardPage,
    GetCard,
    GetSubscription,
    LinkCard,
    ReadCardInSteve,
    SearchCards,
    SearchSessions,
    SessionPage,
    SteveAnswer,
    SubscriptionAnswer,
)
from shared.contracts.requests.sync_cards import LinkPreview, PreviewLink
from tests.integration.services.admin_api.stubs import Owners
from tests.unit.services.admin_api.diagnosis import cases, things

CARD = cases.CARD


def now() -> datetime:
    return datetime.now(UTC)


def all_is_well(owners: Owners) -> None:
    """Every owner answers; the card is accepted, linked, active, and charged an hour ago."""
    tapped = now() - timedelta(hours=1)
    owners.answer(GetCard, cases.known())
    owners.answer(SearchCards, CardPage(cards=[cases.known()]))
    owners.answer(ReadCardInSteve, in_steve())
    owners.answer(GetSubscription, subscription())
    owners.answer(SearchSessions, SessionPage(sessions=[cases.session(started_at=tapped)]))
    owners.answer(SearchTaps, TapPage(taps=[cases.tap(tapped_at=tapped)]))
    owners.answer(GetInterception, InterceptionState(everywhere=True, off_at=[]))
    owners.answer(GetCharger, things.charger())
    owners.answer(ListPairings, PairingList(pairings=[]))
    owners.answer(SearchEntries, EntryPage(entries=[]))
    owners.answer(LinkCard, lambda request: cases.known(link=cases.link(**_linked(request))))


def in_steve(**fields: Any) -> SteveAnswer:  # noqa: ANN401 - any field
    return SteveAnswer(answered=True, card=cases.tag(**fields), asked_at=now())


def blocked_in_steve() -> SteveAnswer:
    return SteveAnswer(answered=True, card=cases.blocked_tag(), asked_at=now())


def steve_is_silent() -> SteveAnswer:
    return SteveAnswer(answered=False, card=None, asked_at=now(), problem="it timed out")


def subscription(**fields: Any) -> SubscriptionAnswer:  # noqa: ANN401
    return SubscriptionAnswer(answered=True, subscription=cases.subscription(**fields), asked_at=now())


def _linked(request: LinkCard) -> dict[str, Any]:
    return {
        "external_customer_id": request.external_customer_id,
        "external_subscription_id": request.external_subscription_id,
        "valid_from": request.valid_from or now(),
    }


def preview(request: PreviewLink, **given: Any) -> LinkPreview:  # noqa: ANN401
    """What sync would say of a link: three held sessions wait for it."""
    return LinkPreview(
        **{
            "id_tag": request.id_tag,
            "current": None,
            "valid_from": request.valid_from,
            "release_from": request.release_from or request.valid_from,
            "external_customer_id": request.external_customer_id,
            "external_subscription_id": request.external_subscription_id,
            "children": [],
            "open_sessions": [],
            "sessions_that_stay": 0,
            "held_to_release": 3,
            "held_wh": 21_400,
            "problems": [],
            **given,
        }
    )
