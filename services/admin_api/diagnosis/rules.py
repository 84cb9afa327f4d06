"""Why does this card not charge? Evidence in, verdict out: the runbook's four questions. No I/O, no clock.

A piece of evidence that is missing makes its question unknown, never a yes or a no, and the verdict never "fine".
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, TypeVar

from services.admin_api.answers import Part, Silent
from services.admin_api.console import format as fmt
from services.admin_api.diagnosis.charger import charger_facts, charger_troubles, in_words, steves_refusal
from services.admin_api.diagnosis.gaps import gap_in_question
from services.admin_api.diagnosis.model import Answer, Check, CheckId, Diagnosis, Evidence, Fact
from services.admin_api.diagnosis.standing import circle, is_full, is_valid, standing
from services.admin_api.diagnosis.verdict import judge
from shared.contracts.requests.preauth import TapView
from shared.contracts.requests.sync import LinkView, SessionView, SteveCard

T = TypeVar("T")

# A session's start is the charger's clock, a tap's time is ours.
CLOCKS_DIFFER: Final = timedelta(minutes=2)
SHOWN: Final = 5
"""Taps and sessions named as evidence."""


def diagnose(evidence: Evidence) -> Diagnosis:
    """Answer the four questions and judge."""
    checks = [
        valid_in_steve(evidence),
        linked(evidence),
        intercepted(evidence),
        charger(evidence),
    ]
    return Diagnosis(card=evidence.id_tag, verdict=judge(evidence, checks), checks=checks)


def valid_in_steve(evidence: Evidence) -> Check:
    """Whether SteVe considers this card valid right now.

    The answer is SteVe's own; the parent, which stock SteVe never looks at, is reported beside it.
    """
    if isinstance(evidence.steve, Silent):
        why = evidence.steve.sentence
        return _check("valid_in_steve", "unknown", why, evidence.steve.as_of, _mirror(evidence))
    asked_at, card = evidence.steve.as_of, evidence.steve.value.card
    if card is None:
        why = "SteVe has no card of this idTag, and answers Invalid to a tap."
        return _check("valid_in_steve", "no", why, asked_at, [])
    facts = [*_steve_facts(card, asked_at), *_parent_facts(evidence)]
    answers = {
        "blocked": ("no", "SteVe answers Blocked: the card's limit is 0."),
        "expired": ("no", f"SteVe answers Expired: since {fmt.instant(card.expiry)}." if card.expiry else ""),
        "accepted": ("yes", "SteVe answers Accepted."),
    }
    answer, why = answers[standing(card, evidence.now)]
    if answer == "yes" and is_full(card):
        why = (
            f"SteVe answers Accepted to a tap, but ConcurrentTx to a further session: {card.active_transaction_count} "
            f"of {card.max_active_transaction_count} are open."
        )
    if answer == "yes":
        why += _parent_in_words(evidence)
    return _check("valid_in_steve", "yes" if answer == "yes" else "no", why, asked_at, facts)


def linked(evidence: Evidence) -> Check:
    """Whether the card, or else one above it, is linked to a Lago customer with an active subscription; Lago is asked
    now.
    """
    if isinstance(evidence.known, Silent):
        why = evidence.known.sentence
        return _check("linked", "unknown", why, evidence.known.as_of, [])
    as_of = evidence.known.as_of
    card = evidence.known.value
    if card is None:
        return _check("linked", "no", "ExpresSync does not know this card, so it is linked to nobody.", as_of, [])
    if isinstance(evidence.above, Silent):
        why = f"The card has no link of its own; whether one above it has is not known: {evidence.above.sentence}"
        return _check("linked", "unknown", why, evidence.above.as_of, [])
    linked_card = evidence.linked
    if linked_card is None or (link := linked_card.link) is None:
        whose = f"Neither the card nor {' → '.join(card.ancestors)} above it is" if card.ancestors else "The card is"
        to = "a" if card.ancestors else "no"
        why = f"{whose} linked to {to} Lago customer; its sessions are held. {circle(card)}".rstrip()
        return _check("linked", "no", why, as_of, [])
    how = "Linked" if linked_card is card else f"Through {linked_card.id_tag} above it, linked"
    facts = [
        Fact(
            source="sync",
            says=f"{how} to {link.external_customer_id}, subscription {link.external_subscription_id}, "
            f"by {link.linked_by}.",
            at=link.valid_from,
        )
    ]
    if not is_valid(link, evidence.now):
        return _check("linked", "no", f"The link is not valid now: {_validity(link)}.", as_of, facts)
    return _subscribed(evidence, link, how, facts)


def intercepted(evidence: Evidence) -> Check:
    """Whether the last tap was intercepted by scan-to-login. Only what was told in time counts: the rest charged."""
    if isinstance(evidence.taps, Silent):
        why = evidence.taps.sentence
        return _check("intercepted", "unknown", why, evidence.taps.as_of, [])
    taps = evidence.taps.value
    facts = [*(_tap_fact(tap) for tap in taps[:SHOWN]), *_armed_facts(evidence)]
    gap = gap_in_question(evidence)
    if gap is not None:
        why = (
            f"The journal lost {fmt.count(gap.taps, 'tap')} between {fmt.instant_exact(gap.first_at)} and "
            f"{fmt.instant_exact(gap.last_at)}; the one in question may be among them."
        )
        return _check("intercepted", "unknown", why, gap.last_at, facts)
    if not taps:
        why = "No tap of this card has reached ExpresSync, and only a tap that does can be intercepted."
        if evidence.at is not None:
            why = f"No tap of this card around {fmt.instant(evidence.at)} has reached ExpresSync."
        return _check("intercepted", "no", why, evidence.taps.as_of, facts)
    tap = taps[0]
    answer, why = _interception(tap)
    return _check("intercepted", answer, why, tap.tapped_at, facts)


def charger(evidence: Evidence) -> Check:
    """Whether the charger accepted the card.

    Energy proves a yes; a stop as DeAuthorized, or SteVe's refusal with no session after it, a no. A transaction alone
    proves nothing (facts: SteVe, 7).
    """
    for part in (evidence.sessions, evidence.taps):
        if isinstance(part, Silent):
            return _check("charger", "unknown", part.sentence, part.as_of, [])
    sessions = _value(evidence.sessions)
    taps = _value(evidence.taps)
    facts = [*charger_facts(evidence), *(_session_fact(session) for session in sessions[:SHOWN])]
    tap = taps[0] if taps else None
    session = sessions[0] if sessions else None
    if tap is not None and (session is None or session.started_at < tap.tapped_at - CLOCKS_DIFFER):
        if steves_refusal(evidence) is not None:
            why = f"No session followed the tap at {tap.charge_box_id}: SteVe answered {in_words(tap.steve_answer)}."
            return _check("charger", "no", why, tap.tapped_at, facts)
        told = " It was told Blocked for a login, so it should not have." if _interception(tap)[0] == "yes" else ""
        why = f"No session followed the tap at {tap.charge_box_id}; nobody has told what the charger did.{told}"
        why += "".join(f" {each.says}" for each in charger_troubles(evidence))
        return _check("charger", "unknown", why, tap.tapped_at, facts)
    if session is None:
        why = "Neither a tap nor a session of this card has been seen yet."
        return _check("charger", "unknown", why, evidence.now, facts)
    answer, why = _outcome(session)
    return _check("charger", answer, why, session.started_at, facts)


def _check(name: CheckId, answer: Answer, why: str, as_of: datetime, facts: Sequence[Fact]) -> Check:
    return Check(id=name, answer=answer, why=why, as_of=as_of, evidence=list(facts))


def _value(part: Part[list[T]]) -> list[T]:
    return [] if isinstance(part, Silent) else part.value


def _steve_facts(card: SteveCard, at: datetime) -> list[Fact]:
    says = [
        f"limit {fmt.tag_limit(card.max_active_transaction_count)}",
        f"expiry {fmt.instant(card.expiry)}" if card.expiry else "no expiry",
        f"{card.active_transaction_count} open" if card.in_transaction else "no open session",
    ]
    return [Fact(source="steve", says=f"{card.id_tag}: {', '.join(says)}.", at=at)]


def _parent_facts(evidence: Evidence) -> list[Fact]:
    if isinstance(evidence.steve, Silent) or evidence.steve.value.card is None:
        return []
    now = evidence.steve.value
    if now.parent is None:
        parent = evidence.steve.value.card.parent_id_tag
        return [Fact(source="steve", says=f"Its parent {parent} could not be read.")] if parent else []
    return _steve_facts(now.parent, evidence.steve.as_of)


def _parent_in_words(evidence: Evidence) -> str:
    if isinstance(evidence.steve, Silent) or evidence.steve.value.parent is None:
        return ""
    parent = evidence.steve.value.parent
    how = standing(parent, evidence.now)
    if how == "accepted":
        return ""
    return f" Its parent {parent.id_tag} is {how}; stock SteVe does not look at that, some versions of it do."


def _mirror(evidence: Evidence) -> list[Fact]:
    """What was last read from SteVe: shown with its age, and no answer to "right now"."""
    card = None if isinstance(evidence.known, Silent) else evidence.known.value
    if card is None or card.steve is None:
        return []
    how = standing(card.steve, card.mirrored_at or evidence.now)
    return [Fact(source="sync", says=f"When it was last read, SteVe's answer was: {how}.", at=card.mirrored_at)]


def _validity(link: LinkView) -> str:
    until = f" until {fmt.instant(link.valid_to)}" if link.valid_to else ""
    return f"it is valid from {fmt.instant(link.valid_from)}{until}"


def _subscribed(evidence: Evidence, link: LinkView, how: str, facts: list[Fact]) -> Check:
    asked = evidence.subscription
    if asked is None:
        return _check("linked", "unknown", "Lago was not asked about the subscription.", evidence.now, facts)
    if isinstance(asked, Silent):
        return _check("linked", "unknown", asked.sentence, asked.as_of, facts)
    found = asked.value
    if found is None:
        why = f"Lago has no active subscription {link.external_subscription_id}."
        return _check("linked", "no", why, asked.as_of, facts)
    facts = [*facts, Fact(source="lago", says=f"Subscription {found.external_subscription_id} is {found.status}, "
                          f"plan {found.plan_code}.", at=asked.as_of)]  # fmt: skip
    if found.status != "active":
        why = f"The subscription {found.external_subscription_id} is {found.status}."
        return _check("linked", "no", why, asked.as_of, facts)
    if found.external_customer_id != link.external_customer_id:
        why = (
            f"The subscription {found.external_subscription_id} belongs to {found.external_customer_id} in Lago, "
            f"not to {link.external_customer_id}."
        )
        return _check("linked", "no", why, asked.as_of, facts)
    why = f"{how} to {link.external_customer_id}; its subscription {found.external_subscription_id} is active."
    return _check("linked", "yes", why, asked.as_of, facts)


def _interception(tap: TapView) -> tuple[Answer, str]:
    """Whether a tap became a login: it needs the decision, and Blocked told in time."""
    where = f"The tap at {tap.charge_box_id}"
    if tap.decision != "intercept":
        return "no", f"{where} was left to SteVe. {_reason(tap)}"
    if tap.told == "blocked" and tap.in_time:
        return "yes", f"{where} was taken for a login: the charger was told Blocked on purpose."
    if tap.told == "passed" or (tap.told == "blocked" and tap.in_time is False):
        return "no", f"{where} matched a pairing, but the answer came too late; SteVe's own verdict stood."
    return "unknown", f"{where} matched a pairing; whether the charger was told Blocked in time is not known."


def _reason(tap: TapView) -> str:
    return tap.explanation or f"{fmt.sentence(fmt.words(tap.reason))}."


def _tap_fact(tap: TapView) -> Fact:
    says = {"blocked": "told Blocked", "passed": "left to SteVe", "unknown": "answer not known", None: "no answer yet"}
    how = says[tap.told] + (", too late" if tap.in_time is False else "")
    how += f", which answered {in_words(tap.steve_answer)}" if tap.told == "passed" and tap.steve_answer else ""
    return Fact(
        source="preauth",
        says=f"{fmt.sentence(tap.kind)} at {tap.charge_box_id} through the {tap.via}: {how} ({fmt.words(tap.reason)}).",
        at=tap.tapped_at,
    )


def _armed_facts(evidence: Evidence) -> list[Fact]:
    """Pairings armed now where this card was last seen: its next tap there would be taken."""
    if isinstance(evidence.pairings, Silent):
        return [Fact(source="preauth", says="Whether a pairing is armed now is not known.", at=evidence.pairings.as_of)]
    taps = _value(evidence.taps)
    here = {tap.charge_box_id for tap in taps[:1]}
    return [
        Fact(
            source="preauth",
            says=f"A pairing is armed at {pairing.charge_box_id} until {fmt.instant_exact(pairing.expires_at)}: "
            "the next tap there is taken for it.",
            at=pairing.armed_at,
        )
        for pairing in evidence.pairings.value
        if pairing.charge_box_id in here and pairing.expires_at > evidence.now
    ]


def _session_fact(session: SessionView) -> Fact:
    energy = "no reading yet" if session.energy_wh is None else f"{fmt.kwh(session.energy_wh)} kWh"
    end = "open" if session.stopped_at is None else f"ended ({session.stop_reason or 'no reason given'})"
    return Fact(
        source="sync",
        says=f"Session {session.session} at {session.charge_box_id} /{session.connector_id}: {energy}, {end}, billing "
        f"{session.billing.state}.",
        at=session.started_at,
    )


def _outcome(session: SessionView) -> tuple[Answer, str]:
    where = f"the session at {session.charge_box_id}"
    if session.stop_reason == "DeAuthorized":
        return "no", f"{fmt.sentence(where)} was stopped because the card was not accepted (DeAuthorized)."
    if session.energy_wh is not None and session.energy_wh > 0:
        return "yes", f"{fmt.sentence(where)} delivered {fmt.kwh(session.energy_wh)} kWh."
    if session.stopped_at is None:
        return "unknown", f"A session is open at {session.charge_box_id}, but it has delivered nothing yet."
    return "unknown", f"{fmt.sentence(where)} delivered nothing, which does not tell whether the card was accepted."
