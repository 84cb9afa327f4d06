"""Sync, as far as preauth asks it: answers from memory in place of the bus. Its own answers are tested with sync."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from shared.bus.requests import NoAnswerError
from shared.contracts.problem import NotFound, RemoteProblem
from shared.contracts.request import Request
from shared.contracts.requests.sync import CardView, GetCard, SearchSessions, SessionPage, SessionView, SteveCard
from shared.contracts.requests.sync_cards import CardSnapshot, CardSnapshotPage, SnapshotCards


def card_view(id_tag: str, *, blocked: bool = False, expiry: datetime | None = None, active: bool = True) -> CardView:
    """A card as sync would show it: fine, unless said otherwise."""
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
        link=None,
        children=[],
        card_id=uuid4(),
    )


@dataclass
class SyncDouble:
    """Put in the place of `service.requester.ask`. `silent`: nobody answers."""

    cards: dict[str, CardView] = field(default_factory=dict)
    silent: bool = False
    # In the order of their idTags.
    snapshot: list[CardSnapshot] = field(default_factory=list)
    sessions: list[SessionView] = field(default_factory=list)
    connected: bool = True
    asked: list[Request[Any]] = field(default_factory=list)

    def know(self, id_tag: str, **more: Any) -> UUID:  # noqa: ANN401 - what `card_view` takes
        view = self.cards[id_tag] = card_view(id_tag, **more)
        assert view.card_id is not None
        return view.card_id

    async def ask(self, request: Request[Any], **_: object) -> Any:  # noqa: ANN401 - the request's reply
        self.asked.append(request)
        if self.silent:
            raise NoAnswerError(request.name, request.owner, "it is silent")
        if isinstance(request, GetCard):
            if request.id_tag not in self.cards:
                raise RemoteProblem(NotFound(f"There is no card {request.id_tag}.").details())
            return self.cards[request.id_tag]
        if isinstance(request, SnapshotCards):
            return self._snapshot(request)
        assert isinstance(request, SearchSessions)
        return SessionPage(sessions=[one for one in self.sessions if one.stopped_at is None or not request.open_only])

    def _snapshot(self, request: SnapshotCards) -> CardSnapshotPage:
        """One card a page, so that paging is needed."""
        after = [one for one in self.snapshot if request.cursor is None or one.id_tag > request.cursor]
        more = after[0].id_tag if len(after) > 1 else None
        return CardSnapshotPage(cards=after[:1], taken_at=datetime.now(UTC), next_cursor=more)
