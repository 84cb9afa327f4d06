"""A card from the API's answers: what is kept here, what SteVe says, whose it is."""

from dataclasses import replace
from datetime import datetime

from services.admin_api import aftermath
from services.admin_api.answers import Answered, Part, Silent
from services.admin_api.api.cards import CardDetails
from services.admin_api.console import paths
from services.admin_api.console.drawing import events
from services.admin_api.console.view.cards import (
    Card,
    CardRow,
    Link,
    Relation,
    Relations,
    Steve,
    SteveRecord,
)
from services.admin_api.console.view.state import Mark, State
from services.admin_api.console.view.timeline import Timeline, of_entry, of_gap, of_tap, timeline
from services.admin_api.diagnosis.model import SteveNow
from services.admin_api.diagnosis.standing import circle, standing
from shared.contracts.requests.sync import CardView, LinkView, SteveCard, SubscriptionView

_STANDING = {
    "accepted": Mark(State.OK, "accepted"),
    "blocked": Mark(State.WRONG, "blocked"),
    "expired": Mark(State.WRONG, "expired"),
}


def row(view: CardView, *, steve_answers: bool) -> CardRow:
    """A card in a list, from the mirror: current only while SteVe answers."""
    return CardRow(_card(view, link=_link(view.link, None), steve=_mirrored(view, current=steve_answers)))


def card(details: CardDetails) -> Card:
    known = details.card.value if isinstance(details.card, Answered) else None
    steve = _steve(details.steve, known)
    if known is None:
        return Card(details.id_tag, "", active=False, steve=steve, known=not isinstance(details.card, Silent))
    above = details.above.value if isinstance(details.above, Answered) else None
    link = _link((above or known).link, details.subscription, through=above.id_tag if above is not None else "")
    drawn = _card(known, link=link, steve=steve)
    return replace(drawn, above="silent" if isinstance(details.above, Silent) else None)


def with_steve(view: CardView, steve: Part[SteveNow]) -> Card:
    """What is kept of it, with SteVe's own record of now."""
    return _card(view, link=_link(view.link, None), steve=_steve(steve, view))


def bare_card(view: CardView) -> Card:
    """As it stands in the mirror, for a page about something else than the card."""
    return _card(view, link=_link(view.link, None), steve=_mirrored(view, current=True))


def relations(details: CardDetails, now: datetime) -> Relations:
    known = details.card.value if isinstance(details.card, Answered) else None
    children = None
    if isinstance(details.card, Answered):
        children = tuple(
            _child(name, part, now)
            for name, part in zip(known.children if known else [], details.children, strict=False)
        )
    return Relations(
        parent=_parent(details, known, now),
        children=children,
        total=len(known.children) if known else 0,
        parent_silent=isinstance(details.steve, Silent),
        above=tuple(known.ancestors[1:]) if known else (),
        circle=circle(known) if known else "",
    )


def history(details: CardDetails, shown: frozenset[str]) -> Timeline:
    """What happened to the card: its recorded events, and its taps from the journal."""
    moments, missing = [], []
    if isinstance(details.timeline, Silent):
        missing.append("Audit")
    else:
        moments += [of_entry(events.entry(view)) for view in details.timeline.value]
    if isinstance(details.taps, Silent):
        missing.append("Preauth")
    else:
        moments += [of_tap(events.tap(view)) for view in details.taps.value]
        moments += [of_gap(gap.first_at, gap.last_at, aftermath.of_gap(gap.taps, gap.why)) for gap in details.gaps]
    return timeline(moments, paths.card(details.id_tag), shown, tuple(missing))


def _card(view: CardView, *, link: Link | None, steve: Steve) -> Card:
    return Card(
        id_tag=view.id_tag,
        card_type=view.card_type,
        active=view.active,
        is_meta=view.card_type == "meta" or bool(view.children),
        display_name=view.display_name or "",
        id_tag_as_sent=view.id_tag_as_sent or "",
        link=link,
        steve=steve,
        above="not_asked" if view.ancestors else None,
    )


def _link(
    link: LinkView | None, subscription: Part[SubscriptionView | None] | None, *, through: str = ""
) -> Link | None:
    if link is None:
        return None
    status = None
    if isinstance(subscription, Answered):
        status = subscription.value.status if subscription.value is not None else "missing"
    return Link(
        external_customer_id=link.external_customer_id,
        external_subscription_id=link.external_subscription_id,
        valid_from=link.valid_from,
        subscription_status=status,
        inherited_from=through,
        asked=subscription is not None,
    )


def _mirrored(view: CardView, *, current: bool) -> Steve:
    if view.steve is None:
        return Steve("absent" if current and view.mirrored_at is not None else "silent")
    record = _record(view.steve, view.mirrored_at)
    return Steve("present" if current and record is not None else "silent", record)


def _steve(part: Part[SteveNow], known: CardView | None) -> Steve:
    if isinstance(part, Silent):
        record = _record(known.steve, known.mirrored_at) if known and known.steve else None
        return Steve("silent", record, part.who)
    if part.value.card is None:
        return Steve("absent")
    return Steve("present", _record(part.value.card, part.as_of))


def _record(tag: SteveCard, read_at: datetime | None) -> SteveRecord | None:
    if read_at is None:
        return None
    return SteveRecord(
        ocpp_tag_pk=tag.ocpp_tag_pk,
        max_active_transaction_count=tag.max_active_transaction_count,
        blocked=tag.blocked,
        expiry=tag.expiry,
        parent_id_tag=tag.parent_id_tag or "",
        note=tag.note or "",
        in_transaction=tag.in_transaction,
        active_transaction_count=tag.active_transaction_count,
        read_at=read_at,
        user_pk=tag.user_pk,
        parent_ocpp_tag_pk=tag.parent_ocpp_tag_pk,
    )


def _parent(details: CardDetails, known: CardView | None, now: datetime) -> Relation | None:
    if isinstance(details.steve, Silent):
        name = known.steve.parent_id_tag if known and known.steve else None
        return Relation(name, Mark(State.UNKNOWN, "did not answer")) if name else None
    tag, parent = details.steve.value.card, details.steve.value.parent
    if tag is None or tag.parent_id_tag is None:
        return None
    mark = Mark(State.UNKNOWN, "could not be read") if parent is None else _STANDING[standing(parent, now)]
    return Relation(tag.parent_id_tag, mark)


def _child(name: str, part: Part[CardView | None], now: datetime) -> Relation:
    if isinstance(part, Silent):
        return Relation(name, Mark(State.UNKNOWN, "did not answer"))
    if part.value is None or part.value.steve is None:
        return Relation(name, Mark(State.UNKNOWN, "not known"))
    mark = _STANDING[standing(part.value.steve, now)]
    return Relation(name, Mark(mark.state, mark.word, "As last read from SteVe."), part.value.display_name or "")
