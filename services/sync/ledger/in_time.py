"""Whether Lago would bill an event that waited. Pure."""

from datetime import datetime, timedelta
from typing import Final

from services.sync.lago.rules import Metric, Subscribed

# A subscription may end at any time. What Lago said of it is believed for so long, within the period it named.
BELIEVED_FOR: Final = timedelta(minutes=30)
# An event that waited may have waited for the outage in which its subscription ended, unheard: it goes by what Lago
# says now. So long, that a backlog asks once for all the events of a subscription.
BELIEVED_OF_WAITING_FOR: Final = timedelta(seconds=10)
WAITED: Final = timedelta(minutes=1)


def is_doubtful(believed: Subscribed | None, metric: Metric, now: datetime, *, waited: bool) -> bool:
    """Whether Lago has to be asked again before an event is sent: its period may be over since, or it has ended, or it
    was asked about another metric.
    """
    believed_for = BELIEVED_OF_WAITING_FOR if waited else BELIEVED_FOR
    if believed is None or not believed.active or believed.is_older(now, believed_for):
        return True
    if not believed.is_about(metric):
        return True
    return any(over is not None and over <= now for over in (believed.period_to, believed.ended_at))


def not_billed(subscription: Subscribed, at: datetime) -> tuple[str, str] | None:
    """Why Lago would take an event of that moment and never bill it, as a reason and in words."""
    if subscription.active:
        if subscription.period_from is not None and at < subscription.period_from:
            return "late", f"It is stamped {at:%Y-%m-%d %H:%M} UTC, in a period that ended while it waited."
        if subscription.has_charge:
            return None
        return "plan_without_charge", f"Plan {subscription.plan_code} has no charge, or none any more, that counts it."
    name, ended_at = subscription.external_subscription_id, subscription.ended_at
    if ended_at is None:
        return "after_subscription", f"Lago has no active subscription {name} any more."
    reason = "subscription_invoiced" if ended_at >= at else "after_subscription"
    what = f"It is stamped {at:%Y-%m-%d %H:%M} UTC, and subscription {name} ended at {ended_at:%Y-%m-%d %H:%M} UTC."
    return reason, what
