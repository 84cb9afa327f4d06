"""Linking a card: customers and subscriptions from Lago, and what a link will change, in sentences."""

from datetime import UTC, datetime

from services.admin_api.console import format as fmt
from services.admin_api.console.view.links import Customer, Preview, Subscription
from services.admin_api.console.view.state import Mark, State
from shared.contracts.requests.sync import CustomerView, SubscriptionView
from shared.contracts.requests.sync_cards import LinkPreview

UNDO = "Link the card again to change it. What Lago has counted by then is not taken back."
_STATUS = {
    "active": Mark(State.OK, "active"),
    "pending": Mark(State.ATTENTION, "not started yet"),
    "terminated": Mark(State.WRONG, "ended"),
    "canceled": Mark(State.WRONG, "cancelled"),
}


def customer(view: CustomerView) -> Customer:
    return Customer(view.external_customer_id, view.name or "")


def subscription(view: SubscriptionView) -> Subscription:
    usable = view.status == "active"
    return Subscription(
        external_id=view.external_subscription_id,
        name=view.name or "",
        plan=view.plan_code,
        status=_STATUS.get(view.status, Mark(State.ATTENTION, fmt.words(view.status))),
        started_at=view.started_at,
        usable=usable,
        why_not="" if usable else "Lago counts usage only for an active subscription.",
    )


def preview(made: LinkPreview) -> Preview:
    """The consequences as sync counted them."""
    says = [_from(made.external_customer_id, made.external_subscription_id, made.valid_from)]
    if (now := made.current) is not None:
        says.append(
            f"Until then it stays linked to {now.external_customer_id}, subscription {now.external_subscription_id}."
        )
    if made.open_sessions:
        running = len(made.open_sessions)
        stay = "stays with its owner" if running == 1 else "stay with their owner"
        says.append(f"{fmt.count(running, 'session')} running now {stay}.")
    if made.sessions_that_stay:
        says.append(
            f"{fmt.count(made.sessions_that_stay, 'session')} of that time belong to somebody already, and stay."
        )
    if made.children:
        below = fmt.count(len(made.children), "card")
        says.append(f"New sessions of {below} below it, which have no link of their own, follow.")
    release = ""
    if made.held_to_release:
        held = fmt.count(made.held_to_release, "held session")
        release = (
            f"Release and bill {held} that began since {fmt.instant(made.release_from)}, "
            f"{fmt.kwh(made.held_wh)} kWh in all"
        )
    else:
        says.append(f"No session since {fmt.instant(made.release_from)} is held for want of this link.")
    return Preview(tuple(says), UNDO, release)


def plain_preview(
    customer_id: str, subscription_id: str, valid_from: datetime, release_from: datetime | None = None
) -> Preview:
    """What is certain without counting: sync did not say more. `release_from`: what was ticked before."""
    release = f"Release and bill the held sessions that began since {fmt.instant(release_from)}" if release_from else ""
    return Preview(
        (
            _from(customer_id, subscription_id, valid_from),
            "Whether sessions are held for want of it is not known right now.",
        ),
        UNDO,
        release,
    )


def _from(customer_id: str, subscription_id: str, valid_from: datetime) -> str:
    return f"From {fmt.instant(valid_from)}, new sessions are billed to {customer_id}, subscription {subscription_id}."


def field_of(at: datetime) -> str:
    """An instant as the browser's date field takes it: UTC, to the minute."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M")


def instant_of(field: str) -> datetime | None:
    """What the date field says, as UTC; None where it is no date."""
    try:
        return datetime.fromisoformat(field).replace(tzinfo=UTC)
    except ValueError:
        return None
