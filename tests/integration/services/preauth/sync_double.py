"""Sync, as far as preauth asks it: answers from memory in place of the bus. Its own answers are tested with sync."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID, uuid4

from shared.bus.requests import NoAnswerError
from shared.contracts.problem import NotFound, RemoteProblem
from shared.contracts.request import Request
from shared.contracts.requests.sync import (
    Billing,
    BillingState,
    CardView,
    GetCard,
    GetUpstreams,
    LinkView,
    OperateCharger,
    OperationOutcome,
    OperationResult,
    SearchSessions,
    SessionPage,
    SessionView,
    SteveCard,
    UpstreamList,
    UpstreamView,
)
from shared.contracts.requests.sync_cards import (
    CardSnapshot,
    CardSnapshotPage,
    GetPortalUrl,
    PortalAnswer,
    SnapshotCards,
)


def card_view(
    id_tag: str,
    *,
    blocked: bool = False,
    expiry: datetime | None = None,
    active: bool = True,
    customer: str | None = None,
) -> CardView:
    """A card as sync would show it: fine, unless said otherwise; linked where there is a `customer`."""
    return CardView(
        id_tag=id_tag,
        id_tag_as_sent=None,
        display_name="Ada's card",
        card_type="ev_card",
        active=active,
        steve=SteveCard(
            ocpp_tag_pk=1,
            id_tag=id_tag,
            parent_id_tag=None,
            max_active_transaction_count=0 if blocked else 1,
            active_transaction_count=0,
            in_transaction=False,
            blocked=blocked,
            expiry=expiry,
            note=None,
        ),
        mirrored_at=None,
        link=LinkView(
            external_customer_id=customer,
            external_subscription_id=f"{customer}-sub",
            valid_from=datetime(2026, 1, 1, tzinfo=UTC),
            valid_to=None,
            linked_by="operator/maria",
        )
        if customer
        else None,
        children=[],
        card_id=uuid4(),
    )


def session_view(
    id_tag: str, pk: int, billing: BillingState, *, energy_wh: int | None, charger: str = "CP-7"
) -> SessionView:
    """A session as sync would show it, an hour long."""
    at = datetime(2026, 5, 1, 8, pk, tzinfo=UTC)
    return SessionView(
        session=f"steve:{pk}",
        charge_box_id=charger,
        connector_id=1,
        id_tag=id_tag,
        started_at=at,
        stopped_at=at + timedelta(hours=1),
        start_wh=1000,
        stop_wh=1000 + energy_wh if energy_wh is not None else None,
        energy_wh=energy_wh,
        stop_reason="Local",
        billing=Billing(state=billing),
    )


@dataclass
class SyncDouble:
    """Put in the place of `service.requester.ask`. `silent`: nobody answers. `portals`: a customer's page in Lago, None
    where Lago knows no such customer; of any other customer Lago is silent.
    """

    cards: dict[str, CardView] = field(default_factory=dict)
    sessions: list[SessionView] = field(default_factory=list)
    portals: dict[str, str | None] = field(default_factory=dict)
    silent: bool = False
    # Of the next operations, in turn; None: no answer. Then all are accepted.
    outcomes: list[OperationOutcome | None] = field(default_factory=list)
    # In the order of their idTags.
    snapshot: list[CardSnapshot] = field(default_factory=list)
    connected: bool = True
    # When SteVe answered it last; None: it is lost.
    steve_at: datetime | None = None
    asked: list[Request[Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)

    def know(self, id_tag: str, **more: Any) -> UUID:  # noqa: ANN401 - what `card_view` takes
        view = self.cards[id_tag] = card_view(id_tag, **more)
        assert view.card_id is not None
        return view.card_id

    async def ask(self, request: Request[Any], *, key: str | None = None, **_: object) -> Any:  # noqa: ANN401 - the request's reply
        self.asked.append(request)
        self.keys.append(key)
        if self.silent:
            raise NoAnswerError(request.name, request.owner, "it is silent")
        if isinstance(request, GetCard):
            if request.id_tag not in self.cards:
                raise RemoteProblem(NotFound(f"There is no card {request.id_tag}.").details())
            return self.cards[request.id_tag]
        if isinstance(request, SnapshotCards):
            return self._snapshot(request)
        if isinstance(request, GetPortalUrl):
            customer = request.external_customer_id
            return PortalAnswer(answered=customer in self.portals, url=self.portals.get(customer))
        if isinstance(request, OperateCharger):
            return self._operate(request)
        if isinstance(request, GetUpstreams):
            state: Literal["ok", "lost"] = "lost" if self.steve_at is None else "ok"
            since = datetime(2026, 1, 1, tzinfo=UTC)
            return UpstreamList(
                upstreams=[UpstreamView(upstream="steve", state=state, since=since, checked_at=self.steve_at)]
            )
        assert isinstance(request, SearchSessions)
        return SessionPage(sessions=[one for one in reversed(self.sessions) if _wanted(one, request)][: request.limit])

    def operated(self, charge_box_id: str, operation: str) -> list[OperateCharger]:
        """What it was asked to have the charger do."""
        asked = (one for one in self.asked if isinstance(one, OperateCharger))
        return [one for one in asked if (one.charge_box_id, one.operation) == (charge_box_id, operation)]

    def _operate(self, request: OperateCharger) -> OperationResult:
        outcome = self.outcomes.pop(0) if self.outcomes else "accepted"
        if outcome is None:
            raise NoAnswerError(request.name, request.owner, "it is silent")
        return OperationResult(
            charge_box_id=request.charge_box_id,
            operation=request.operation,
            outcome=outcome,
            asked_at=datetime.now(UTC),
        )

    def _snapshot(self, request: SnapshotCards) -> CardSnapshotPage:
        """One card a page, so that paging is needed."""
        after = [one for one in self.snapshot if request.cursor is None or one.id_tag > request.cursor]
        more = after[0].id_tag if len(after) > 1 else None
        return CardSnapshotPage(cards=after[:1], taken_at=datetime.now(UTC), next_cursor=more)


def _wanted(one: SessionView, request: SearchSessions) -> bool:
    return request.id_tag in {None, one.id_tag} and (one.stopped_at is None or not request.open_only)
