"""From the four answers to one sentence: the strongest finding first, then what is not known, and "fine" last."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from services.admin_api.answers import Silent
from services.admin_api.diagnosis.charger import charger_troubles, in_words, is_offline, is_recent, steves_refusal
from services.admin_api.diagnosis.codes import Code
from services.admin_api.diagnosis.gaps import gap_in_question
from services.admin_api.diagnosis.model import Check, Decider, Evidence, Verdict
from services.admin_api.diagnosis.standing import is_full, is_valid, standing
from shared.contracts.requests.audit import EntryView
from shared.contracts.requests.sync import CardView, LinkView, SessionView, SteveCard

ASK_AGAIN: Final = "Ask again in a moment; the overview shows who does not answer."
TAP_AGAIN: Final = "Tap the card once more: what is lost does not come back, and the next tap tells."
AT_THE_CHARGER: Final = (
    "Check the charger: is it online, is the connector Available? Then tap the card on a charger that is known to work."
)
"""The runbook's last step."""


def judge(evidence: Evidence, checks: Sequence[Check]) -> Verdict:
    """The verdict over the four checks."""
    answers = {check.id: check for check in checks}
    return (
        _by_steve(evidence, answers["valid_in_steve"])
        or _by_login(evidence, answers["intercepted"], answers["charger"])
        or _without_steve(evidence, answers["valid_in_steve"])
        or _limited(evidence, answers["charger"])
        or _parent_off(evidence)
        or _refused_by_steve(evidence, answers["charger"])
        or _by_charger(answers["charger"])
        or _charger_off(evidence, answers["charger"])
        or _not_billed(evidence, answers["linked"])
        or _not_known(evidence, checks)
        or _inactive(evidence)
        or _fine(answers["charger"])
    )


def _verdict(code: Code, sentence: str, by: Decider | None, since: datetime | None, remedy: str) -> Verdict:
    return Verdict(code=code, sentence=sentence, decided_by=by, since=since, remedy=remedy)


def _steve_card(evidence: Evidence) -> SteveCard | None:
    return None if isinstance(evidence.steve, Silent) else evidence.steve.value.card


def _by_steve(evidence: Evidence, check: Check) -> Verdict | None:
    if check.answer != "no":
        return None
    card = _steve_card(evidence)
    if card is None:
        return _verdict(
            "not_in_steve",
            "SteVe does not know this card, and answers Invalid.",
            "steve",
            None,
            "Compare the idTag with the one on the card; if it is right, add the card in SteVe. A first start of a "
            "session adds it too, blocked.",
        )
    if card.blocked:
        change = _blocking(evidence)
        by_operator = change is not None and change.actor_kind in ("operator", "api_token")
        who = f" {change.actor_id} did that." if change is not None and by_operator else ""
        return _verdict(
            "blocked",
            f"SteVe blocks this card: its limit is 0.{who}",
            "operator" if by_operator else "steve",
            change.time if change is not None else None,
            "Unblock it to let it charge. The audit log tells why it was blocked.",
        )
    return _verdict(
        "expired",
        "This card has expired in SteVe.",
        "steve",
        card.expiry,
        "Set a later expiry in SteVe, or none.",
    )


def _blocking(evidence: Evidence) -> EntryView | None:
    """The recorded change that blocked the card, unless a later one says otherwise."""
    if isinstance(evidence.changes, Silent):
        return None
    for entry in evidence.changes.value:
        after = entry.data.get("after")
        if isinstance(after, dict) and "block_kind" in after:
            # An operator's block was taken off one that was there before, and stands.
            return None
        blocked = after.get("blocked") if isinstance(after, dict) else None
        if entry.type == "card.blocked" or blocked is True:
            return entry
        if entry.type == "card.unblocked" or blocked is False:
            return None
    return None


def _by_login(evidence: Evidence, intercepted: Check, charger: Check) -> Verdict | None:
    if intercepted.answer != "yes":
        return None
    if charger.answer == "yes":
        return _verdict(
            "interception_ignored",
            "The charger was told Blocked for a login, and charged all the same.",
            "charger",
            intercepted.as_of,
            "Check that it goes through the gateway, or that its SteVe applies the hook's answer.",
        )
    if intercepted.as_of is not None and not is_recent(intercepted.as_of, evidence):
        return None  # it charges by now; what is wrong today stands in the other answers
    return _verdict(
        "intercepted",
        "The last tap was taken for a login, as intended; the rejection at the charger is no fault.",
        "expressync",
        intercepted.as_of,
        "Tap again to charge. If nobody wanted to log in, look in the audit log who armed the pairing.",
    )


def _without_steve(evidence: Evidence, check: Check) -> Verdict | None:
    if check.answer != "unknown":
        return None
    if isinstance(evidence.steve, Silent) and evidence.steve.who != "SteVe":
        # It is asked through another service: whoever looks at SteVe looks at the wrong thing.
        who = evidence.steve.who
        return _verdict(
            "unknown",
            f"{who[:1].upper()}{who[1:]} did not answer, so nobody asked SteVe whether it accepts this card.",
            None,
            None,
            f"Look at {who} and the broker first: `expressync doctor` tells which of them does not answer.",
        )
    return _verdict(
        "steve_silent",
        "SteVe did not answer, so nobody knows whether it accepts this card.",
        None,
        None,
        "Look at SteVe first: while it is away, every card looks broken.",
    )


def _limited(evidence: Evidence, charger: Check) -> Verdict | None:
    newest = next(iter(_sessions(evidence)), None)
    if newest is not None and newest.stopped_at is None and charger.answer == "yes":
        return None  # what fills the limit is what the card is for
    card = _steve_card(evidence)
    if card is None or not is_full(card):
        return None
    open_now = next((each for each in _sessions(evidence) if each.stopped_at is None), None)
    where = f", the newest at {open_now.charge_box_id}" if open_now is not None else ""
    return _verdict(
        "limit_reached",
        f"SteVe starts no further session with this card: {card.active_transaction_count} of "
        f"{card.max_active_transaction_count} are open{where}.",
        "steve",
        open_now.started_at if open_now is not None else None,
        "If the card charges there, all is well. Otherwise end that session; one that never ended is stopped in SteVe, "
        "under Transactions.",
    )


def _parent_off(evidence: Evidence) -> Verdict | None:
    if isinstance(evidence.steve, Silent) or evidence.steve.value.parent is None:
        return None
    parent = evidence.steve.value.parent
    how = standing(parent, evidence.now)
    if how == "accepted":
        return None
    return _verdict(
        "parent_blocked" if how == "blocked" else "parent_expired",
        f"SteVe accepts this card, but its parent {parent.id_tag} is {how}. Stock SteVe does not look at that; some "
        "versions of it do.",
        "steve",
        parent.expiry if how == "expired" else None,
        f"Set {parent.id_tag} right, or give the card another parent.",
    )


def _refused_by_steve(evidence: Evidence, charger: Check) -> Verdict | None:
    """What SteVe has on record now, and what it answered then, are two things."""
    tap = steves_refusal(evidence)
    if tap is None or charger.answer == "yes":
        return None
    since = "Its record has changed since then. Tap the card again."
    if tap.steve_answer not in ("Blocked", "Expired", "ConcurrentTx"):
        since = (
            "Either the card was added since then, or SteVe failed inside, where it refuses every card: its log "
            "of that time tells which. Tap the card again."
        )
    return _verdict(
        "steve_refused",
        f"By its record SteVe accepts this card, but to the tap at {tap.charge_box_id} it answered "
        f"{in_words(tap.steve_answer)}.",
        "steve",
        tap.tapped_at,
        since,
    )


def _by_charger(check: Check) -> Verdict | None:
    if check.answer != "no":
        return None
    return _verdict(
        "charger_refused",
        f"SteVe accepts this card, but {_lower(check.why)}",
        "charger",
        check.as_of,
        "Clear the charger's authorization cache, then tap again; another charger shows whether it is this one.",
    )


def _charger_off(evidence: Evidence, check: Check) -> Verdict | None:
    troubles = charger_troubles(evidence) if check.answer != "yes" else []
    if not troubles:
        return None
    if is_offline(evidence):
        code: Code = "charger_offline"
        remedy = "Bring the charger back online; until then it decides from what it remembers, or not at all."
    else:
        code, remedy = "charger_faulted", "Repair the charger or reset it; until then tap the card at another one."
    sentence = f"SteVe accepts this card, but {_lower(troubles[0].says)}"
    return _verdict(code, sentence, "charger", troubles[0].at, remedy)


def _not_billed(evidence: Evidence, check: Check) -> Verdict | None:
    if check.answer != "no":
        return None
    link = _link(evidence)
    charges = "SteVe accepts this card, so it can charge, but"
    if link is None:
        known = _known(evidence)
        linked = "it is linked to no Lago customer"
        if known is not None and known.ancestors:
            linked = "neither it nor a card above it is linked to a Lago customer"
        return _verdict(
            "not_linked",
            f"{charges} {linked}: its sessions are held.",
            "expressync",
            None,
            "Link it to a customer and a subscription; sessions held since a date that you confirm are then released.",
        )
    if not is_valid(link, evidence.now):
        remedy = "Link it from an earlier date, or again."
        return _verdict("link_not_valid", f"{charges} {_lower(check.why)}", "expressync", None, remedy)
    asked = evidence.subscription
    found = None if asked is None or isinstance(asked, Silent) else asked.value
    if found is not None and found.status == "active":
        return _verdict(
            "other_customers_subscription",
            f"{charges} {_lower(check.why)}",
            "lago",
            None,
            "Link it to the right customer's subscription.",
        )
    return _verdict(
        "no_active_subscription",
        f"{charges} nothing is billed: {_lower(check.why)}",
        "lago",
        found.ending_at if found is not None else None,
        "Give the customer a subscription in Lago, or link the card to another one.",
    )


def _not_known(evidence: Evidence, checks: Sequence[Check]) -> Verdict | None:
    """Nothing wrong was found; whether that is all there is depends on who answered."""
    unknown = [check for check in checks if check.answer == "unknown"]
    if [check.id for check in unknown] == ["charger"] and not _charger_unasked(evidence):
        return _verdict(
            "charger_not_known",
            f"SteVe accepts this card and it is linked. {unknown[0].why}",
            None,
            unknown[0].as_of,
            AT_THE_CHARGER,
        )
    why = unknown[0].why if unknown else _unread_parent(evidence)
    if why is None:
        return None
    remedy = TAP_AGAIN if gap_in_question(evidence) is not None else ASK_AGAIN
    return _verdict("unknown", f"Nothing wrong was found, but not everything is known. {why}", None, None, remedy)


def _inactive(evidence: Evidence) -> Verdict | None:
    known = _known(evidence)
    if known is None or known.active:
        return None
    return _verdict(
        "not_active",
        "SteVe accepts this card, but it is set inactive here: its sessions are held.",
        "expressync",
        None,
        "Set it active to have its sessions billed.",
    )


def _fine(charger: Check) -> Verdict:
    return _verdict(
        "fine",
        "Nothing stops this card: SteVe accepts it, it is linked, and a charger took it.",
        "steve",
        charger.as_of,
        "Nothing is to be done for the card. If it still fails somewhere, check that charger.",
    )


def _unread_parent(evidence: Evidence) -> str | None:
    card = _steve_card(evidence)
    if card is None or card.parent_id_tag is None or isinstance(evidence.steve, Silent):
        return None
    return f"Its parent {card.parent_id_tag} could not be read." if evidence.steve.value.parent is None else None


def _charger_unasked(evidence: Evidence) -> bool:
    """Whether the charger's answer is unknown because those who would know it did not answer."""
    return isinstance(evidence.sessions, Silent) or isinstance(evidence.taps, Silent)


def _sessions(evidence: Evidence) -> list[SessionView]:
    return [] if isinstance(evidence.sessions, Silent) else evidence.sessions.value


def _known(evidence: Evidence) -> CardView | None:
    return None if isinstance(evidence.known, Silent) else evidence.known.value


def _link(evidence: Evidence) -> LinkView | None:
    return evidence.linked.link if evidence.linked is not None else None


def _lower(sentence: str) -> str:
    """A sentence to go on with, unless it begins with a name."""
    for word in ("The ", "Connector ", "No ", "Its ", "It ", "A ", "Linked "):
        if sentence.startswith(word):
            return sentence[:1].lower() + sentence[1:]
    return sentence
