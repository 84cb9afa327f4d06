"""What a session owes, when, and what stands against billing it. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from services.sync.lago.models import UsageEvent
from services.sync.lago.rules import Metric, Subscribed

LatePolicy = Literal["hold", "bill_in_current_period"]
# Lago compares milliseconds; its clock and ours differ.
FUTURE_TOLERANCE: Final = timedelta(seconds=5)

# Lago would not count what is sent, as it is set up.
NOT_SET_UP: Final = "lago_not_set_up"
# An entry that says another metric than the one that bills by now, and may have been sent.
METRIC_CHANGED: Final = "metric_changed"

REMEDIES: Final = {
    "card_unknown": "Create the card in SteVe, or link it; then release the session.",
    "card_inactive": "Activate the card, then release the session.",
    "card_unlinked": "Link the card from a date before the session, then release the session.",
    "no_active_subscription": "Start a subscription in Lago; the session is then billed by itself.",
    "other_customer": "The subscription is another customer's by now. Relink the card, then release the session by its"
    " name, with change_owner where another customer is to be billed; or ignore it.",
    "before_subscription": "The subscription began after the session ended. Bill it by hand in Lago, then ignore it.",
    "after_subscription": "The subscription ends before the time that it would be billed at. Bill it by hand in Lago,"
    " then ignore it.",
    "subscription_invoiced": "Bill it by hand in Lago, then ignore it. While no usage event of it is made, the card can"
    " also be relinked to another subscription of the same customer, and the session released by its name.",
    "start_changed": "Correct the difference by hand in Lago, then ignore it; or restore the start in SteVe and retry.",
    "late": "Its billing period is over. Release it to bill it in the current one; or bill it by hand in Lago, then"
    " ignore it.",
    "plan_without_charge": "The plan has no charge on the metric that bills what is sent (a dynamic one wants a"
    " price with each event): it would be free. Add one in Lago. Where a usage event is made already, retry it then.",
    NOT_SET_UP: "Set Lago up as the explanation says, or correct EXPRESSYNC_SYNC_METRIC_CODE and _METRIC_PROPERTY; the"
    " session is then billed by itself.",
    METRIC_CHANGED: "Release it to have it sent for the metric that bills now. Where Lago has it already, bill by hand"
    " there what it does not count of it, then ignore it.",
    "changed_since_ignored": "It was ignored as it was then. Release it to bill what it is now, or ignore it again.",
    "needs_credit_note": "Less was used than was billed. Write a credit note in Lago, then ignore it.",
    "id_conflict": "Lago has another event under this id. Compare the two; ignore the session when it is billed.",
    "lago_refused": "Lago refuses the event. Repair what it names, then retry.",
    "lago_fails_on_it": "Lago answers this event with an error of its own each time. Repair Lago, then retry.",
    "settling_failed": "A fault of this service; it is tried again by itself. Report what it says.",
    "another_steve": "Give this SteVe a name of its own.",
}


@dataclass(frozen=True, slots=True)
class Bill:
    """A new entry: from `from_wh` to `to_wh`, which may be less, stamped `timestamp`."""

    from_wh: int
    to_wh: int
    timestamp: datetime
    final: bool
    # The end of the billing period of that moment.
    period_to: datetime | None


@dataclass(frozen=True, slots=True)
class Hold:
    """Not billed, and why. `recheck`: the cause may go away without anybody telling us."""

    reason: str
    explanation: str
    recheck: bool = False


@dataclass(frozen=True, slots=True)
class Settled:
    """There is nothing to add: what is billed is what was used."""


@dataclass(frozen=True, slots=True)
class Chain:
    """How far a session is billed: `billed_wh` is None where nothing is yet, `entries` are how much and when by the
    metric that bills now.
    """

    last_seq: int
    billed_wh: int | None
    entries: tuple[tuple[datetime, int], ...] = ()

    def next_from(self, start_wh: int) -> int:
        return start_wh if self.billed_wh is None else self.billed_wh

    def billed_since(self, moment: datetime | None) -> int:
        """Wh that are stamped at `moment` or after it; None: ever."""
        return sum(wh for at, wh in self.entries if moment is None or at >= moment)


def settle(
    *,
    start_wh: int,
    to_wh: int,
    read_at: datetime,
    final: bool,
    chain: Chain,
    subscribed: Subscribed,
    customer: str,
    now: datetime,
    late_policy: LatePolicy,
) -> Bill | Hold | Settled:
    """What to do about energy read at `read_at`. The subscription is the owner's, or the one billed before."""
    from_wh = chain.next_from(start_wh)
    if to_wh == from_wh and chain.last_seq > 0:
        return Settled()
    if to_wh < from_wh:
        refusal = _against_correction(subscribed, chain, from_wh - to_wh)
        if refusal is not None:
            return refusal
    timestamp = _millis(read_at)
    if timestamp > now + FUTURE_TOLERANCE:
        return Hold("in_future", f"It was read at {_words(timestamp)}, which is still to come.", recheck=True)
    against = _against(subscribed, customer, timestamp)
    if against is None and subscribed.period_from is not None and timestamp < subscribed.period_from:
        if late_policy == "hold":
            began = _words(subscribed.period_from)
            return Hold("late", f"It ended at {_words(timestamp)}; the current billing period began at {began}.")
        # Chosen once: it is frozen with the entry. Inside the period for as long as that lasts.
        timestamp = _millis(max(subscribed.period_from, now))
        # Lago may still call one active whose end has come: what lies after it, nothing bills.
        against = _against(subscribed, customer, timestamp)
    return against or Bill(from_wh, to_wh, timestamp, final, subscribed.period_of(timestamp))


def _against(subscribed: Subscribed, customer: str, timestamp: datetime) -> Hold | None:
    name = subscribed.external_subscription_id
    if not subscribed.active:
        return _ended(subscribed, timestamp)
    if subscribed.external_customer_id != customer:
        owner = subscribed.external_customer_id
        return Hold("other_customer", f"Subscription {name} belongs to {owner} now, and to {customer} when linked.")
    if subscribed.started_at is None or timestamp < _millis(subscribed.started_at):
        began = _words(subscribed.started_at) if subscribed.started_at else "not yet"
        return Hold("before_subscription", f"It ended at {_words(timestamp)}; subscription {name} began {began}.")
    if subscribed.ended_at is not None and timestamp > subscribed.ended_at:
        return Hold("after_subscription", f"Subscription {name} ends at {_words(subscribed.ended_at)}.", recheck=True)
    if not subscribed.has_charge:
        what = (
            f"Plan {subscribed.plan_code} has no charge on the metric, or a dynamic one only: Lago would not bill it."
        )
        return Hold("plan_without_charge", what, recheck=True)
    return None


def _ended(subscribed: Subscribed, timestamp: datetime) -> Hold:
    name, ended_at = subscribed.external_subscription_id, subscribed.ended_at
    if ended_at is None:
        return Hold("no_active_subscription", f"Lago has no active subscription {name}.", recheck=True)
    if ended_at < timestamp:
        return Hold("after_subscription", f"Subscription {name} ended at {_words(ended_at)}.", recheck=True)
    # It was running then, and its last invoice is final: no policy brings that back.
    return Hold("subscription_invoiced", f"Subscription {name} ended at {_words(ended_at)} and has been invoiced.")


def _against_correction(subscribed: Subscribed, chain: Chain, less_wh: int) -> Hold | None:
    """Lago takes a negative event only where the charge is in arrears, and as much as it takes back was billed in the
    period that is open (facts 5): the rest would come off what others used, or be clamped to nothing.
    """
    why = None
    if not subscribed.active:
        why = "its subscription has ended"
    elif subscribed.pay_in_advance:
        why = "its charge was paid in advance"
    elif less_wh > chain.billed_since(subscribed.period_from):
        why = "the billing period in which they were billed is over, or another metric billed them"
    if why is None:
        return None
    return Hold("needs_credit_note", f"{less_wh} Wh less were used than were billed, and {why}.")


def another_metric(made_for: Metric, bills: Metric) -> str:
    made, now = (f"{one.property_name!r} of the metric {one.code}" for one in (made_for, bills))
    return f"It is made for {made}, and may have been sent so; what bills by now is {now}."


def _words(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _millis(moment: datetime) -> datetime:
    """Lago keeps milliseconds; what is frozen must be what can be read back."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def usage_event_id(steve_id: str, transaction_pk: int, seq: int) -> str:
    """Derived from the source and nothing else, so that any attempt by anybody has the same one."""
    return f"steve:{steve_id}:{transaction_pk}:{seq}"


def kwh(wh: int) -> str:
    """Wh as kWh with exactly three decimals: a plain decimal string is all that Lago counts (facts 7)."""
    sign, wh = ("-", -wh) if wh < 0 else ("", wh)
    return f"{sign}{wh // 1000}.{wh % 1000:03d}"


def unix_seconds(moment: datetime) -> str:
    """`<sec>.<mmm>`, without a float in between."""
    seconds = int(moment.timestamp() // 1)
    return f"{seconds}.{moment.microsecond // 1000:03d}"


def usage_event(
    *,
    event_id: str,
    subscription: str,
    code: str,
    property_name: str,
    wh: int,
    timestamp: datetime,
    session: str,
    charge_box_id: str,
) -> UsageEvent:
    """An entry as Lago is sent it, the same at each attempt."""
    return UsageEvent(
        transaction_id=event_id,
        external_subscription_id=subscription,
        code=code,
        timestamp=unix_seconds(timestamp),
        properties={property_name: kwh(wh), "session": session, "charger": charge_box_id},
    )
