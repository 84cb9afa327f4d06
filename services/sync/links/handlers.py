"""Linking cards to Lago's customers, and asking Lago about them."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from services.sync.cards import store as cards
from services.sync.cards.changing import Changes
from services.sync.lago.client import LagoClient
from services.sync.lago.models import Subscription
from services.sync.lago.store import forget_freshness
from services.sync.links import store
from services.sync.links.problems import (
    AlreadyLinked,
    LagoSilent,
    LinkTooYoung,
    NoActiveSubscription,
    NotLinked,
    OtherCustomer,
)
from services.sync.upstreams.errors import UpstreamError
from shared.bus.outbox import Outbox
from shared.contracts.cursor import read_number
from shared.contracts.events.sync import CardLinked, CardRelinked, CardUnlinked
from shared.contracts.identity import Cause
from shared.contracts.problem import Problem
from shared.contracts.requests.sync import (
    CardView,
    CustomerPage,
    CustomerView,
    GetSubscription,
    LinkCard,
    LinkView,
    SearchCustomers,
    SubscriptionAnswer,
)
from shared.contracts.requests.sync_cards import (
    GetPortalUrl,
    LinkPreview,
    PortalAnswer,
    PreviewLink,
    RelinkCard,
    UnlinkCard,
)
from shared.database.engine import Database, Write
from shared.runtime.clock import Clock, NewId


class Links:
    def __init__(
        self, lago: LagoClient, database: Database, taker: Changes, outbox: Outbox, *, clock: Clock, new_id: NewId
    ) -> None:
        self._lago, self._database, self._cards, self._outbox = lago, database, taker, outbox
        self._clock, self._new_id = clock, new_id

    # Commands

    async def link_card(self, tx: Write, request: LinkCard, cause: Cause) -> CardView:
        """:raises CardUnknown, AlreadyLinked, NoActiveSubscription, OtherCustomer, LagoSilent:"""
        since = (request.valid_from or self._clock()).astimezone(UTC)
        await self.active_subscription(request.external_customer_id, request.external_subscription_id)
        row = await self._cards.take(tx, request.id_tag)
        if (overlap := _overlap(request.id_tag, await store.of_card(tx, row.pk), since)) is not None:
            raise overlap
        target = (request.external_customer_id, request.external_subscription_id)
        await self.begin(tx, row, target, since, cause)
        return await self._done(tx, request.id_tag, since)

    async def relink_card(self, tx: Write, request: RelinkCard, cause: Cause) -> CardView:
        """:raises CardUnknown, NotLinked, LinkTooYoung, NoActiveSubscription, OtherCustomer, LagoSilent:"""
        since = (request.valid_from or self._clock()).astimezone(UTC)
        await self.active_subscription(request.external_customer_id, request.external_subscription_id)
        row = await self._cards.take(tx, request.id_tag)
        current = await self._current(tx, row)
        if current.valid_from >= since:
            raise LinkTooYoung(request.id_tag, current.valid_from)
        await self.move(
            tx, row, current, (request.external_customer_id, request.external_subscription_id), since, cause
        )
        return await self._done(tx, request.id_tag, since)

    async def unlink_card(self, tx: Write, request: UnlinkCard, cause: Cause) -> CardView:
        """:raises CardUnknown, NotLinked, LinkTooYoung:"""
        until = (request.valid_to or self._clock()).astimezone(UTC)
        row = await self._cards.take(tx, request.id_tag)
        current = await self._current(tx, row)
        if current.valid_from >= until:
            raise LinkTooYoung(request.id_tag, current.valid_from)
        await self.end(tx, row, current, until, cause)
        return await self._done(tx, request.id_tag, until)

    # What commands, undo and Lago's news are made of

    async def begin(self, tx: Write, row: Any, target: tuple[str, str], since: datetime, cause: Cause) -> UUID:  # noqa: ANN401 - a row of card
        link_pk = await self._add(tx, row, target, since, cause)
        after = {"link_pk": link_pk, **_told(target, since)}
        change_id = await self._keep(tx, row, "link", {}, after, cause)
        event = CardLinked(id_tag=row.id_tag, change_id=change_id, **_fields(target, since))
        await self._outbox.add(tx, event, cause)
        return change_id

    async def move(  # noqa: PLR0917 - from where, to where, since when
        self,
        tx: Write,
        row: Any,  # noqa: ANN401 - a row of card
        current: Any,  # noqa: ANN401 - a row of link
        target: tuple[str, str],
        since: datetime,
        cause: Cause,
    ) -> UUID:
        await store.end(tx, current.pk, since)
        link_pk = await self._add(tx, row, target, since, cause)
        before = {"link_pk": current.pk, **_told(_target(current), current.valid_from)}
        change_id = await self._keep(tx, row, "relink", before, {"link_pk": link_pk, **_told(target, since)}, cause)
        event = CardRelinked(
            id_tag=row.id_tag,
            change_id=change_id,
            **_fields(target, since),
            previous_external_customer_id=current.external_customer_id,
            previous_external_subscription_id=current.external_subscription_id,
        )
        await self._outbox.add(tx, event, cause)
        return change_id

    async def end(  # noqa: PLR0917 - which link, when, by whom
        self,
        tx: Write,
        row: Any,  # noqa: ANN401 - a row of card
        current: Any,  # noqa: ANN401 - a row of link
        until: datetime,
        cause: Cause,
        ocpp_tag_pk: int | None = None,
    ) -> UUID:
        """End a link. `ocpp_tag_pk`: the tag that SteVe has at that time, where it is not the one that is noted."""
        await store.end(tx, current.pk, until)
        before = {
            "link_pk": current.pk,
            **_told(_target(current), current.valid_from),
            "valid_to": _iso(current.valid_to),
        }
        # Undone, it goes on for the tag that is there now: for another one it never was.
        after = {"valid_to": until.isoformat(), "ocpp_tag_pk": ocpp_tag_pk or row.ocpp_tag_pk}
        change_id = await self._keep(tx, row, "unlink", before, after, cause)
        await self._outbox.add(tx, unlinked(row.id_tag, change_id, current, until), cause)
        return change_id

    async def begin_with_tag(self, tx: Write, row: Any, found: Mapping[str, Any], cause: Cause) -> None:  # noqa: ANN401 - a row of card
        """Whoever pays for a tag, itself or through its parent, does not pay for another one that SteVe has under its
        idTag since, mirrored as `found`. What was linked after the one before was last seen is meant for that one.
        """
        until = await cards.last_seen(tx, row, self._clock())
        await cards.set_parent(tx, row.pk, found["parent_id_tag"], since=until)
        for one in await store.made_before(tx, row.pk, until):
            end = max(until, one.valid_from + store.SHORTEST)
            await self.end(tx, row, one, end, cause, found["ocpp_tag_pk"])

    async def removed(self, tx: Write, row: Any, gone: Any, cause: Cause) -> UUID:  # noqa: ANN401 - rows
        """Tell that a link was taken back as if it had never been."""
        before = {"link_pk": gone.pk, **_told(_target(gone), gone.valid_from)}
        until = gone.valid_from
        # Undone, it is back for this tag alone, as one that was ended.
        after = {"valid_to": until.isoformat(), "ocpp_tag_pk": row.ocpp_tag_pk}
        change_id = await self._keep(tx, row, "unlink", before, after, cause)
        await self._outbox.add(tx, unlinked(row.id_tag, change_id, gone, until), cause)
        return change_id

    async def restored(  # noqa: PLR0917 - what is back, what is gone
        self,
        tx: Write,
        row: Any,  # noqa: ANN401 - a row of card
        back: Any,  # noqa: ANN401 - a row of link
        gone: Any,  # noqa: ANN401 - a row of link
        since: datetime,
        cause: Cause,
    ) -> UUID:
        """Tell that a link is back in the place of one that was taken back."""
        await self._believe_anew(tx, back.external_subscription_id)
        before = {"link_pk": gone.pk, **_told(_target(gone), since)}
        after = {"link_pk": back.pk, **_told(_target(back), since)}
        change_id = await self._keep(tx, row, "relink", before, after, cause)
        event = CardRelinked(
            id_tag=row.id_tag,
            change_id=change_id,
            **_fields(_target(back), since),
            previous_external_customer_id=gone.external_customer_id,
            previous_external_subscription_id=gone.external_subscription_id,
        )
        await self._outbox.add(tx, event, cause)
        return change_id

    async def reopen(self, tx: Write, row: Any, link: Any, until: datetime | None, cause: Cause) -> UUID:  # noqa: ANN401 - rows
        """Have a link that had an end go on, without one or until another: undoing that gives it that end again."""
        await store.end(tx, link.pk, until)
        await self._believe_anew(tx, link.external_subscription_id)
        before = {"valid_to": link.valid_to.isoformat()}
        after = {"link_pk": link.pk, **_told(_target(link), link.valid_from), "valid_to": _iso(until)}
        change_id = await self._keep(tx, row, "link", before, after, cause)
        event = CardLinked(id_tag=row.id_tag, change_id=change_id, **_fields(_target(link), link.valid_from))
        await self._outbox.add(tx, event, cause)
        return change_id

    async def _add(self, tx: Write, row: Any, target: tuple[str, str], since: datetime, cause: Cause) -> int:  # noqa: ANN401 - a row of card
        await self._believe_anew(tx, target[1])
        return await store.add(tx, row.pk, target, since, by=cause.actor.id, at=self._clock())

    async def _believe_anew(self, tx: Write, subscription: str) -> None:
        """Lago has just been asked: a link is not to end, nor a session be held, by what it said before."""
        await forget_freshness(tx, [subscription], now=self._clock(), are_there=True)

    async def _current(self, tx: Write, row: Any) -> Any:  # noqa: ANN401 - rows
        current = next((one for one in await store.of_card(tx, row.pk) if one.valid_to is None), None)
        if current is None:
            raise NotLinked(row.id_tag)
        return current

    async def _keep(  # noqa: PLR0917 - a row's columns
        self,
        tx: Write,
        row: Any,  # noqa: ANN401 - a row of card
        kind: str,
        before: dict[str, Any],
        after: dict[str, Any],
        cause: Cause,
    ) -> UUID:
        change_id = self._new_id()
        await cards.keep_change(
            tx,
            change_id=change_id,
            card_pk=row.pk,
            kind=kind,
            at=self._clock(),
            by=cause.actor.id,
            before=before,
            after=after,
        )
        return change_id

    async def _done(self, tx: Write, id_tag: str, at: datetime) -> CardView:
        view = await cards.view(tx, id_tag, max(self._clock(), at))
        assert view is not None  # noqa: S101 - it was taken for this command
        return view

    # Questions

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

    async def preview_link(self, request: PreviewLink, _: Cause) -> LinkPreview:
        """What link_card or relink_card would change. :raises CardUnknown: there is nothing to preview."""
        now = self._clock()
        since = (request.valid_from or now).astimezone(UTC)
        problems = []
        try:
            await self.active_subscription(request.external_customer_id, request.external_subscription_id)
        except Problem as problem:
            problems.append(problem.detail)
        async with self._database.read() as tx:
            row = await cards.known(tx, request.id_tag)
            links = await store.of_card(tx, row.pk)
            current = next((one for one in links if one.valid_to is None), None)
            if current is not None and current.valid_from >= since:
                problems.append(LinkTooYoung(request.id_tag, current.valid_from).detail)
            elif current is None and (overlap := _overlap(request.id_tag, links, since)) is not None:
                problems.append(overlap.detail)
            release_from = (request.release_from or since).astimezone(UTC)
            effect = await store.effect(tx, request.id_tag, since, release_from=release_from, now=now)
        view = None
        if current is not None:
            view = LinkView(
                external_customer_id=current.external_customer_id,
                external_subscription_id=current.external_subscription_id,
                valid_from=current.valid_from,
                valid_to=None,
                linked_by=current.linked_by,
            )
        return LinkPreview(
            id_tag=request.id_tag,
            current=view,
            valid_from=since,
            release_from=release_from,
            external_customer_id=request.external_customer_id,
            external_subscription_id=request.external_subscription_id,
            children=effect.children,
            open_sessions=effect.open_sessions,
            sessions_that_stay=effect.owned,
            held_to_release=effect.held,
            held_wh=effect.held_wh,
            problems=problems,
        )

    async def get_subscription(self, request: GetSubscription, _: Cause) -> SubscriptionAnswer:
        """What Lago says now: the active one of this id, else the last one that was."""
        asked_at, name = self._clock(), request.external_subscription_id
        try:
            found = await self._lago.subscription(name, urgent=True)
            if found is None:
                found = await self._lago.subscription(name, status="terminated", urgent=True)
        except UpstreamError as error:
            return SubscriptionAnswer(answered=False, subscription=None, asked_at=asked_at, problem=error.explanation)
        return SubscriptionAnswer(
            answered=True, subscription=found.view() if found is not None else None, asked_at=asked_at
        )

    async def search_customers(self, request: SearchCustomers, _: Cause) -> CustomerPage:
        """:raises Invalid: on a cursor that did not come from a page before."""
        page = read_number(request.cursor) if request.cursor is not None else 1
        try:
            found = (
                await self._lago.customers(request.text, page=page, per_page=request.limit)
                if request.external_customer_id is None
                else await self._lago.customer(request.external_customer_id)
            )
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

    async def get_portal_url(self, request: GetPortalUrl, _: Cause) -> PortalAnswer:
        try:
            url = await self._lago.portal_url(request.external_customer_id)
            there = url is not None or bool((await self._lago.customer(request.external_customer_id)).customers)
        except UpstreamError as error:
            return PortalAnswer(answered=False, url=None, problem=error.explanation)
        problem = None
        if url is None:
            name = request.external_customer_id
            problem = f"Lago has no customer {name}."
            if there:
                # A dot in the id ends the path in Lago.
                problem = f"Lago gives no portal address for {name}: open the portal from the customer's page there."
        return PortalAnswer(answered=True, url=url, problem=problem)


def _overlap(id_tag: str, links: Iterable[Any], since: datetime) -> AlreadyLinked | None:
    """Why a link cannot begin beside these of the card's, newest first."""
    for other in links:
        if other.valid_to is None or other.valid_to > since:
            return AlreadyLinked(id_tag, other.external_subscription_id, other.valid_from, other.valid_to)
    return None


def _target(link: Any) -> tuple[str, str]:  # noqa: ANN401 - a row of link
    return link.external_customer_id, link.external_subscription_id


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment is not None else None


def _fields(target: tuple[str, str], since: datetime) -> dict[str, Any]:
    return {"external_customer_id": target[0], "external_subscription_id": target[1], "valid_from": since}


def _told(target: tuple[str, str], since: datetime) -> dict[str, Any]:
    return {**_fields(target, since), "valid_from": since.isoformat()}


def unlinked(id_tag: str, change_id: UUID, link: Any, until: datetime) -> CardUnlinked:  # noqa: ANN401 - a row of link
    return CardUnlinked(id_tag=id_tag, change_id=change_id, **_fields(_target(link), link.valid_from), valid_to=until)
