"""What should be billed to whom, and what held by which name: by what happened alone, and the simplest means.

Nothing of the services is imported here. Of Lago it knows what it had when something ended there: what came later to
what has ended is never billed (facts: Lago, 3 and 4), so that part of a history is Lago's to tell.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from deploy.demo.steve.model import Transaction

Policy = Literal["hold", "bill_in_current_period"]
EVER: Final = datetime(2020, 1, 1, tzinfo=UTC)
# What an operator may let pass; the others have to be repaired, or ignored.
PASSABLE: Final = frozenset({"no_energy", "meter_went_back", "stop_before_start", "too_much_energy", "late"})
# A release finds another owner.
UNOWNED: Final = frozenset(
    {
        "card_unlinked",
        "card_unknown",
        "no_active_subscription",
        "after_subscription",
        "before_subscription",
        "subscription_invoiced",
    }
)
MOST_KW: Final = 400


@dataclass
class Span:
    """A link or a parent, and when it is valid; without an end: still."""

    name: str
    since: datetime
    until: datetime | None = None

    def holds(self, at: datetime) -> bool:
        return self.since <= at and (self.until is None or at < self.until)


@dataclass
class Subscription:
    """How a subscription stands in Lago. `open_since`: what is stamped before it can not be billed any more."""

    started_at: datetime
    open_since: datetime
    replaced: bool = False
    ended_at: datetime | None = None
    gone: bool = False


@dataclass
class Session:
    """`closed_wh`: Lago's when its subscription or period ended last, `had_wh`: at that time or later. `frozen`: what
    is late stands before what Lago has, and is not made anew. `deleted`: SteVe has it no longer. `foreign`: the
    subscription under which somebody else's event has the id of the session's first one; of such a session it is Lago's
    to tell how much it has (`has_wh`).
    """

    one: Transaction
    card: str
    before_wh: int | None = None
    owner: str | None = None
    resolved: bool = False
    accepted: set[str] = field(default_factory=set)
    ignored: bool = False
    ignored_wh: int = 0
    had_wh: int = 0
    closed_wh: int = 0
    closed: bool = False
    frozen: bool = False
    deleted: bool = False
    foreign: str | None = None
    has_wh: int = 0

    @property
    def wh(self) -> int:
        """What was used; 0 where nobody can read it."""
        stop = self.one.stop
        return int(stop.value) - int(self.one.start_value) if stop and stop.value.isdigit() else 0


@dataclass(frozen=True)
class Verdict:
    """What Lago counts of a session, and by which names the rest may be held; none: nothing is held."""

    wh: int
    reasons: frozenset[str] = frozenset()


class Model:
    def __init__(
        self, policy: Policy, subscriptions: Iterable[str], started_at: datetime, open_since: datetime
    ) -> None:
        self.policy = policy
        self.subscriptions = {name: Subscription(started_at, open_since) for name in subscriptions}
        self.links: dict[str, list[Span]] = {}
        self.parents: dict[str, list[Span]] = {}
        self.sessions: dict[int, Session] = {}

    # What happens

    def seen(self, pks: Collection[int]) -> None:
        """Sync knows these: whose they are is settled, by what is linked now."""
        for session in (self.sessions[pk] for pk in pks):
            if not session.resolved:
                session.owner, session.resolved = self.owner(session.card, session.one.start_at), True

    def link(self, card: str, subscription: str | None, since: datetime) -> None:
        """From then on: this one, or with None nobody."""
        self._follows(self.links.setdefault(card, []), subscription, since)

    def put_below(self, card: str, parent: str | None, since: datetime) -> None:
        self._follows(self.parents.setdefault(card, []), parent, since)

    @staticmethod
    def _follows(spans: list[Span], name: str | None, since: datetime) -> None:
        for span in spans:
            span.until = min(span.until or since, since)
        if name is not None:
            spans.append(Span(name, since))

    def reissue(self, card: str, parent: str | None, at: datetime) -> None:
        """It is another tag from then on: nobody's, but through a parent of its own."""
        self.link(card, None, at)
        self.put_below(card, parent, at)

    def end_links(self, subscription: str, at: datetime, now: datetime) -> None:
        for span in (one for spans in self.links.values() for one in spans):
            if span.name == subscription and (span.until is None or span.until > now):
                span.until = max(at, span.since + timedelta(milliseconds=1))

    def family(self, card: str, at: datetime) -> set[str]:
        """Whom a link of the card concerns: itself, and those below it that have none of their own, now or later."""
        found = {card}
        while True:
            below = {
                name
                for name, spans in self.parents.items()
                if any(one.until is None and one.name in found for one in spans)
                and not any(one.until is None or one.until > at for one in self.links.get(name, ()))
            }
            if below <= found:
                return found
            found |= below

    def close(self, subscription: str, had: Mapping[int, int], *, for_good: bool = True) -> None:
        """What Lago has of its sessions now is all that it will count of what was before."""
        for pk, session in self.sessions.items():
            if not session.ignored and subscription in (session.owner, self.payer(session)):
                session.had_wh, session.closed = had.get(pk, 0), True
                session.closed_wh = session.had_wh if for_good else session.closed_wh

    def release(self, pk: int, reasons: Collection[str], now: datetime) -> None:
        session = self.sessions[pk]
        if not set(reasons) & UNOWNED:
            session.accepted |= set(reasons)
            session.frozen = False
            return
        owner = self.owner(session.card, session.one.start_at)
        if owner in (None, session.owner):
            owner = self.owner(session.card, now)
        if owner is not None:
            session.owner, session.had_wh, session.closed_wh = owner, 0, 0

    def found_late(self, pk: int, has_wh: int) -> None:
        """An operator's word would bill it now, but for one thing: Lago has a part of it that came after it."""
        session = self.sessions[pk]
        if 0 < has_wh != session.wh:
            session.frozen, session.had_wh = True, has_wh

    def ignore(self, pk: int, had_wh: int) -> None:
        session = self.sessions[pk]
        session.ignored, session.ignored_wh, session.had_wh = True, session.wh, had_wh

    # What should come of it

    def owner(self, card: str, at: datetime) -> str | None:
        """Who pays for what the card begins at that time: its own link, or its nearest linked ancestor's, then."""
        above: str | None = card
        while above is not None:
            link = _valid(self.links.get(above, ()), at)
            if link is not None:
                return link
            above = _valid(self.parents.get(above, ()), at)
        return None

    def payer(self, session: Session) -> str | None:
        """Whose it is, or will be when sync sees it."""
        return session.owner if session.resolved else self.owner(session.card, session.one.start_at)

    def verdict(self, session: Session) -> Verdict:
        """About a session that has stopped, or is ignored."""
        if session.ignored:
            # Other energy than was ignored is held, while it is another one.
            same = session.wh == session.ignored_wh
            return Verdict(session.had_wh, frozenset({"ignored" if same else "changed_since_ignored"}))
        verdict = self._verdict(session)
        if session.foreign is not None and session.foreign == self.payer(session):
            return Verdict(session.has_wh, verdict.reasons | {"id_conflict"})
        return verdict

    def _verdict(self, session: Session) -> Verdict:
        """Where nobody else's event is in the way."""
        wrong = [name for name in anomalies(session) if name not in session.accepted]
        owner = self.payer(session)
        if wrong:
            return Verdict(session.had_wh, frozenset(wrong[:1]))
        if owner is None:
            return Verdict(session.had_wh, frozenset({"card_unknown" if unknown(session.card) else "card_unlinked"}))
        return self._billed_to(self.subscriptions[owner], session)

    def _billed_to(self, one: Subscription, session: Session) -> Verdict:
        assert session.one.stop is not None
        stopped_at, wh, had = session.one.stop.at, session.wh, session.had_wh
        reasons = self._too_late(one, session, stopped_at)
        shut = one.ended_at is not None or one.gone
        if wh < session.closed_wh or (wh < had and shut):
            # Where the correction was on its way already, it is too late like anything else.
            return Verdict(had, reasons | {"needs_credit_note"})
        if wh != had and reasons:
            return Verdict(had, reasons)
        return Verdict(wh)

    def _too_late(self, one: Subscription, session: Session, at: datetime) -> frozenset[str]:
        """By which names what is stamped at that time is held now; none: Lago would bill it."""
        if one.ended_at is not None:
            return frozenset({"subscription_invoiced" if at <= one.ended_at else "after_subscription"})
        if one.gone:
            # After the event was made, it is told by the name that an ended one has; the one before may have ended.
            earlier = {"subscription_invoiced"} if one.replaced else set()
            return frozenset({"no_active_subscription", "after_subscription", *earlier})
        if at < one.started_at:
            return frozenset({"before_subscription", "late"})
        may_pass = self.policy == "bill_in_current_period" or "late" in session.accepted
        if at < one.open_since and (session.frozen or not may_pass):
            return frozenset({"late"})
        return frozenset()


def _valid(spans: Iterable[Span], at: datetime) -> str | None:
    return next((one.name for one in spans if one.holds(at)), None)


def unknown(card: str) -> bool:
    """SteVe did not know it until it charged."""
    return card.startswith("GHOST")


def anomalies(session: Session) -> list[str]:
    """What is impossible about what SteVe recorded; what explains most comes first."""
    one, stop = session.one, session.one.stop
    if stop is None:
        return []
    found = ["stop_before_start"] if stop.at < one.start_at else []
    if not stop.value.isdigit():
        return [*found, "meter_unreadable"]
    hours = max((stop.at - one.start_at) / timedelta(hours=1), 0)
    if session.wh < 0:
        found.append("negative_energy")
    elif session.wh == 0:
        found.append("no_energy")
    elif session.wh > MOST_KW * 1000 * hours * 1.1 + 500:
        found.append("too_much_energy")
    if session.before_wh is not None and int(one.start_value) < session.before_wh:
        found.append("meter_went_back")
    return found
