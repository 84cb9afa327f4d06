"""Linking cards to Lago's customers, and asking Lago about them."""

from datetime import UTC, datetime

from services.sync.cards import store as cards
from services.sync.cards.handlers import CardUnknown
from services.sync.lago.client import LagoClient
from services.sync.lago.models import Subscription
from services.sync.links import store
from services.sync.upstreams.errors import UpstreamError
from shared.bus.outbox import Outbox
from shared.contracts.events.sync import CardLinked
from shared.contracts.identity import Cause
from shared.contracts.problem import Conflict, Problem
from shared.contracts.requests.sync import (
    CardView,
    CustomerPage,
    CustomerView,
    GetSubscription,
    LinkCard,
    SearchCustomers,
    SubscriptionAnswer,
)
from shared.database.engine import Write
from shared.runtime.clock import Clock, NewId


class AlreadyLinked(Conflict):
    code, title = "already_linked", "The card has a link then"

    def __init__(self, id_tag: str, subscription: str, since: datetime, until: datetime | None) -> None:
        end = f"until {until:%Y-%m-%d %H:%M} UTC" if until else "without end"
        super().__init__(
            f"Card {id_tag} is linked to {subscription} from {since:%Y-%m-%d %H:%M} UTC {end}."
            " Relink it, or unlink it first.",
            external_subscription_id=subscription,
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


class Links:
    def __init__(self, lago: LagoClient, outbox: Outbox, *, clock: Clock, new_id: NewId) -> None:
        self._lago, self._outbox, self._clock, self._new_id = lago, outbox, clock, new_id

    async def link_card(self, tx: Write, request: LinkCard, cause: Cause) -> CardView:
        """:raises CardUnknown, AlreadyLinked, NoActiveSubscription, OtherCustomer, LagoSilent:"""
        now = self._clock()
        since = (request.valid_from or now).astimezone(UTC)
        await self.active_subscription(request.external_customer_id, request.external_subscription_id)
        row = await cards.locked(tx, request.id_tag)
        if row is None:
            raise CardUnknown(request.id_tag)
        for other in await store.of_card(tx, row.pk):
            if other.valid_to is None or other.valid_to > since:
                raise AlreadyLinked(request.id_tag, other.external_subscription_id, other.valid_from, other.valid_to)
        await store.add(
            tx,
            card_pk=row.pk,
            external_customer_id=request.external_customer_id,
            external_subscription_id=request.external_subscription_id,
            valid_from=since,
            valid_to=None,
            by=cause.actor.id,
            at=now,
        )
        change_id = self._new_id()
        link = {
            "external_customer_id": request.external_customer_id,
            "external_subscription_id": request.external_subscription_id,
            "valid_from": since.isoformat(),
        }
        await cards.keep_change(
            tx, change_id=change_id, card_pk=row.pk, kind="link", at=now, by=cause.actor.id, before={}, after=link
        )
        await self._outbox.add(
            tx,
            CardLinked(
                id_tag=request.id_tag,
                change_id=change_id,
                external_customer_id=request.external_customer_id,
                external_subscription_id=request.external_subscription_id,
                valid_from=since,
            ),
            cause,
        )
        view = await cards.view(tx, request.id_tag, max(now, since))
        assert view is not None  # noqa: S101 - its row is locked here
        return view

    async def active_subscription(self, customer: str, subscription: str) -> Subscription:
        """The subscription, active and this customer's.

        :raises NoActiveSubscription, OtherCustomer, LagoSilent:
        """
        try:
            found = await self._lago.subscription(subscription, urgent=True)
        except UpstreamError as error:
            raise LagoSilent(error) from error
        if found is None:
            raise NoActiveSubscription(subscription)
        if found.external_customer_id != customer:
            raise OtherCustomer(subscription, found.external_customer_id, customer)
        return found

    async def get_subscription(self, request: GetSubscription, _: Cause) -> SubscriptionAnswer:
        """What Lago says now: the active one of this id, else the last one that was."""
        asked_at = self._clock()
        try:
            found = await self._lago.subscription(request.external_subscription_id, urgent=True)
            if found is None:
                found = await self._lago.subscription(
                    request.external_subscription_id, status="terminated", urgent=True
                )
        except UpstreamError as error:
            return SubscriptionAnswer(answered=False, subscription=None, asked_at=asked_at, problem=error.explanation)
        return SubscriptionAnswer(
            answered=True, subscription=found.view() if found is not None else None, asked_at=asked_at
        )

    async def search_customers(self, request: SearchCustomers, _: Cause) -> CustomerPage:
        page = int(request.cursor) if request.cursor and request.cursor.isdigit() else 1
        try:
            found = await self._lago.customers(request.text, page=page, per_page=request.limit)
            customers = []
            for customer in found.customers:
                subscriptions = await self._lago.subscriptions(customer.external_id, urgent=True)
                customers.append(
                    CustomerView(
                        external_customer_id=customer.external_id,
                        name=customer.name,
                        subscriptions=[one.view() for one in subscriptions.subscriptions],
                    )
                )
        except UpstreamError as error:
            return CustomerPage(answered=False, customers=[], problem=error.explanation)
        following = str(found.meta.next_page) if found.meta.next_page else None
        return CustomerPage(answered=True, customers=customers, next_cursor=following)
