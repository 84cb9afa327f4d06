"""What is to be done about a session, by all that is known about it at that moment."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from services.sync.cards import store as cards
from services.sync.cards.rules import had_expired, was_blocked
from services.sync.lago.rules import Metric, Subscribed
from services.sync.lago.store import subscribed
from services.sync.ledger import rules, store
from services.sync.ledger.rules import Bill, Chain, Hold, LatePolicy, Settled
from services.sync.ledger.store import Key, Part
from services.sync.links import store as links
from services.sync.links.rules import Owner, resolve
from services.sync.sessions import rules as anomalies
from services.sync.sessions import starts
from services.sync.sessions import store as sessions
from services.sync.sessions.rules import Around, Limits, Recorded
from shared.contracts.identity import session_id
from shared.database.engine import Write


@dataclass(frozen=True, slots=True)
class Wait:
    """Lago has to be asked about this subscription first; None: about how it is set up."""

    external_subscription_id: str | None


@dataclass(frozen=True, slots=True)
class Ignored:
    """It is as it was when somebody ignored it."""


Decision = Bill | Hold | Settled | Wait | Ignored


@dataclass(frozen=True, slots=True)
class Terms:
    """What the operator settled: `subscription_age` is how long what Lago said is believed."""

    metric: Metric
    late_policy: LatePolicy
    limits: Limits
    subscription_age: timedelta


@dataclass(frozen=True, slots=True)
class Known:
    """What some sessions are decided by, each by its key."""

    now: datetime
    owners: dict[Key, Owner]
    around: dict[Key, Any]
    intercepted: set[Key]
    cards: dict[str, Any]
    subscribed: dict[str, Subscribed]
    chains: dict[Key, list[Part]]

    def stuck_by(self, row: Any) -> Part | None:  # noqa: ANN401 - a row of session
        """Its first entry that is held: the session stays held for that until it is retried."""
        return next((one for one in self.chains.get(key(row), ()) if one.state == "held"), None)

    def held_wh(self, row: Any) -> int:  # noqa: ANN401 - a row of session
        """What its entries make that are held."""
        return sum(one.wh for one in self.chains.get(key(row), ()) if one.state == "held")


def key(row: Any) -> Key:  # noqa: ANN401 - a row of session
    return row.steve_id, row.transaction_pk


async def gather(tx: Write, rows: list[Any], now: datetime) -> Known:
    known_cards = await cards.rows(tx, sorted({row.id_tag for row in rows}))
    owners = {
        key(row): Owner(row.owner_customer, row.owner_subscription, row.owner_id_tag)
        for row in rows
        if row.owner_subscription is not None
    }
    owners |= await _found_late(tx, [row for row in rows if row.owner_subscription is None], known_cards)
    around: dict[Key, Any] = {}
    intercepted: set[Key] = set()
    for steve_id in {row.steve_id for row in rows}:
        pks = [row.transaction_pk for row in rows if row.steve_id == steve_id]
        near = await sessions.around(tx, steve_id, pks, tolerance=anomalies.OVERLAP_TOLERANCE)
        around |= {(steve_id, pk): one for pk, one in near.items()}
        intercepted |= {(steve_id, pk) for pk in await starts.intercepted(tx, steve_id, pks)}
    return Known(
        now=now,
        owners=owners,
        around=around,
        intercepted=intercepted,
        cards=known_cards,
        subscribed=await subscribed(tx, {one.external_subscription_id for one in owners.values()}),
        chains=await store.chains(tx, [key(row) for row in rows if row.last_seq > 0]),
    )


async def _found_late(tx: Write, unowned: list[Any], known_cards: dict[str, Any]) -> dict[Key, Owner]:
    """Owners of sessions that were seen before their card was: nothing was resolved then, so it is made up for, as it
    would have been then. A link that was made since is somebody's decision about the past, and theirs to confirm.
    """
    unseen = [
        row for row in unowned if (card := known_cards.get(row.id_tag)) and card.discovered_at > row.first_seen_at
    ]
    ownership = await links.ownership(tx, {row.id_tag for row in unseen})
    found = {
        key(row): resolve(row.id_tag, row.started_at, ownership.links, ownership.parents, made_until=row.first_seen_at)
        for row in unseen
    }
    return {name: owner for name, owner in found.items() if isinstance(owner, Owner)}


def decide(row: Any, known: Known, terms: Terms) -> Decision:  # noqa: ANN401 - a row of session
    """About a session as SteVe recorded it."""
    against = _against_ignored(row) or _against_start(row, known) or _against_record(row, known, terms)
    if against is not None:
        return against
    if row.stopped_at is None:
        return Settled()
    if row.start_wh is None or row.stop_wh is None:
        return Hold("meter_unreadable", "Its reading is no number, so there is no energy to bill.")
    owner = known.owners.get(key(row))
    against = _against_card(row, known.cards.get(row.id_tag), owner)
    if against is not None or owner is None:
        return against or Hold("card_unlinked", f"Card {row.id_tag} was linked to nobody when it began.")
    late_policy: LatePolicy = "bill_in_current_period" if "late" in row.accepted_anomalies else terms.late_policy
    return _owe(
        row,
        owner,
        known,
        terms,
        to_wh=row.stop_wh,
        read_at=row.stopped_at,
        final=row.stop_actor != "manual",
        late_policy=late_policy,
    )


def decide_reading(row: Any, wh: int, read_at: datetime, known: Known, terms: Terms) -> Decision:  # noqa: ANN401 - a row of session
    """About a running session and a reading. Whatever stands against it is left to the session's end."""
    owner = known.owners.get(key(row))
    if row.start_wh is None or owner is None or (_against_ignored(row) or _against_start(row, known)) is not None:
        return Settled()
    if wh <= Chain(row.last_seq, row.billed_wh).next_from(row.start_wh):
        # Another replica had a later one: a step never takes anything back.
        return Settled()
    found = anomalies.find(
        Recorded(row.started_at, row.start_wh, read_at, wh),
        _around(row, known),
        now=known.now,
        limits=terms.limits.at(row.charge_box_id),
    )
    if found or _against_card(row, known.cards.get(row.id_tag), owner) is not None:
        return Settled()
    return _owe(row, owner, known, terms, to_wh=wh, read_at=read_at, final=False, late_policy=terms.late_policy)


def _owe(
    row: Any,  # noqa: ANN401 - a row of session
    owner: Owner,
    known: Known,
    terms: Terms,
    *,
    to_wh: int,
    read_at: datetime,
    final: bool,
    late_policy: LatePolicy,
) -> Decision:
    subscription = known.subscribed.get(owner.external_subscription_id)
    if (
        subscription is None
        or subscription.is_older(known.now, terms.subscription_age)
        or subscription.is_over(known.now)
        or not subscription.is_about(terms.metric)
    ):
        return Wait(owner.external_subscription_id)
    billed = tuple((one.timestamp, one.wh) for one in known.chains.get(key(row), ()) if one.metric == terms.metric)
    decision = rules.settle(
        start_wh=row.start_wh,
        to_wh=to_wh,
        read_at=read_at,
        final=final,
        chain=Chain(row.last_seq, row.billed_wh, billed),
        subscribed=subscription,
        customer=owner.external_customer_id,
        now=known.now,
        late_policy=late_policy,
    )
    if isinstance(decision, Bill) and not subscription.knows_period_of(decision.timestamp):
        return Wait(owner.external_subscription_id)
    return decision


def _against_ignored(row: Any) -> Hold | Ignored | None:  # noqa: ANN401 - a row of session
    """Somebody decided that it is not billed; until they take it back, nothing is, and other energy is held."""
    if row.ignored_wh is None:
        return None
    used = anomalies.used_wh(row.start_wh, row.stop_wh)
    if used == row.ignored_wh:
        return Ignored()
    what = f"It was ignored with {row.ignored_wh} Wh, and SteVe recorded something else since: {used} Wh by now."
    return Hold("changed_since_ignored", what)


def _against_start(row: Any, known: Known) -> Hold | None:  # noqa: ANN401 - a row of session
    """A chain that began elsewhere than the session does is not the session's any more."""
    chain = known.chains.get(key(row))
    if not chain or chain[0].from_wh == row.start_wh:
        return None
    now = f"{row.start_wh} Wh" if row.start_wh is not None else "no number"
    return Hold("start_changed", f"It was billed from {chain[0].from_wh} Wh, and its start is {now} in SteVe by now.")


def _against_record(row: Any, known: Known, terms: Terms) -> Hold | None:  # noqa: ANN401 - a row of session
    found = anomalies.find(
        Recorded(row.started_at, row.start_wh, row.stopped_at, row.stop_wh),
        _around(row, known),
        now=known.now,
        limits=terms.limits.at(row.charge_box_id),
    )
    # What was billed may turn out to be nothing, and is then taken back.
    passing = {*row.accepted_anomalies, *(["no_energy"] if row.last_seq else [])}
    first = next((one for one in found if one.anomaly not in passing), None)
    if first is None:
        return None
    return Hold(first.anomaly, first.explanation, recheck=first.anomaly in {"in_future", "open_too_long"})


def _around(row: Any, known: Known) -> Around:  # noqa: ANN401 - a row of session
    card, near = known.cards.get(row.id_tag), known.around.get(key(row))
    overlapping = near.overlapping_pk if near is not None else None
    return Around(
        previous_start_wh=near.previous_start_wh if near is not None else None,
        previous_stop_wh=near.previous_stop_wh if near is not None else None,
        overlaps=session_id(row.steve_id, overlapping) if overlapping is not None else None,
        blocked=_then(row.card_blocked, was_blocked, row, card),
        verdict=near.verdict if near is not None else None,
        intercepted=key(row) in known.intercepted,
        expired=_then(row.card_expired, had_expired, row, card),
    )


def _then(kept: bool | None, ask: Callable[[Any, datetime], bool], row: Any, card: Any) -> bool:  # noqa: ANN401, FBT001 - rows
    """How the card stood at the start: as it was kept, or else as it looks by now."""
    return kept if kept is not None else card is not None and ask(card, row.started_at)


def _against_card(row: Any, card: Any, owner: Owner | None) -> Hold | None:  # noqa: ANN401 - rows
    if card is None or card.gone_at is not None:
        if owner is not None:
            return None
        return Hold("card_unknown", f"SteVe has no card {row.id_tag}.", recheck=True)
    if owner is None:
        if card.max_active == 0 and card.discovered_at >= row.started_at:
            return Hold(
                "card_unknown", f"Card {row.id_tag} was unknown to SteVe when it began, and is linked to nobody."
            )
        return Hold("card_unlinked", f"Card {row.id_tag} was linked to nobody when it began.")
    if not card.active and "card_inactive" not in row.accepted_anomalies:
        return Hold("card_inactive", f"Card {row.id_tag} is not active.", recheck=True)
    return None
