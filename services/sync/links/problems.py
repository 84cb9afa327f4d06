"""Why a link is not made or changed, in words that say what to do."""

from datetime import datetime

from services.sync.upstreams.errors import UpstreamError
from shared.contracts.problem import Conflict, Problem


class AlreadyLinked(Conflict):
    code, title = "already_linked", "The card has a link then"

    def __init__(self, id_tag: str, subscription: str, since: datetime, until: datetime | None) -> None:
        end = f"until {until:%Y-%m-%d %H:%M} UTC" if until else "without end"
        todo = "Choose a time after that." if until else "Relink it, or unlink it first."
        super().__init__(
            f"Card {id_tag} is linked to {subscription} from {since:%Y-%m-%d %H:%M} UTC {end}. {todo}",
            external_subscription_id=subscription,
        )


class NotLinked(Conflict):
    code, title = "not_linked", "The card has no link"

    def __init__(self, id_tag: str) -> None:
        super().__init__(f"Card {id_tag} is linked to nobody now. Link it instead.")


class LinkTooYoung(Conflict):
    code, title = "link_too_young", "The card's link began later"

    def __init__(self, id_tag: str, since: datetime) -> None:
        super().__init__(
            f"The link of {id_tag} began at {since:%Y-%m-%d %H:%M:%S} UTC, which is not before the time given."
            " Choose a later time, or undo that link first."
        )


class NoActiveSubscription(Conflict):
    code, title = "no_active_subscription", "Lago has no such active subscription"

    def __init__(self, subscription: str) -> None:
        super().__init__(
            f"Lago knows no active subscription {subscription}. Activate it in Lago, or choose another one.",
            external_subscription_id=subscription,
        )


class OtherCustomer(Conflict):
    code, title = "other_customer", "The subscription belongs to another customer"

    def __init__(self, subscription: str, owner: str, given: str) -> None:
        super().__init__(
            f"Subscription {subscription} belongs to customer {owner}, not to {given}. Choose one of {given}'s."
        )


class LagoSilent(Problem):
    """Not the same as "no subscription": nobody knows."""

    code, status, title = "lago_did_not_answer", 503, "Lago did not answer"

    def __init__(self, error: UpstreamError) -> None:
        super().__init__(f"Lago could not be asked: it {error.explanation}. Nothing was changed; try again later.")
