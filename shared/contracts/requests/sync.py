"""What others may ask sync: the only service that speaks to SteVe's REST and to Lago."""

from typing import Any, ClassVar, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field

from shared.contracts.configuration import told_parameters, told_response
from shared.contracts.events.sync import Upstream
from shared.contracts.identity import CardKey, Frozen
from shared.contracts.request import MAX_ROWS, Request

BillingState = Literal["open", "pending", "synced", "counted", "held", "ignored"]
CardType = Literal["ev_card", "keytag", "app", "meta"]


class SteveCard(Frozen):
    """SteVe's own record of a tag. `max_active_transaction_count`: 0 blocked, negative unlimited.

    `user_pk` and `parent_ocpp_tag_pk` are known where SteVe has just been asked; the mirror does not keep them.
    """

    ocpp_tag_pk: int
    id_tag: str
    parent_id_tag: str | None
    max_active_transaction_count: int
    active_transaction_count: int
    in_transaction: bool
    blocked: bool
    expiry: AwareDatetime | None
    note: str | None
    user_pk: int | None = Field(None, description="the user in SteVe whose tag it is")
    parent_ocpp_tag_pk: int | None = None


class LinkView(Frozen):
    external_customer_id: str
    external_subscription_id: str
    valid_from: AwareDatetime
    valid_to: AwareDatetime | None
    linked_by: str


class CardView(Frozen):
    """A card as this house knows it; `steve` is the mirror, as of `mirrored_at`.

    `card_id` is all that drivers and tokens see of it. A block of ours has `block_kind`: operator or policy. It is
    noted before it is written: where `steve` is not blocked, it was asked for, and not known to be carried out.
    """

    id_tag: str
    id_tag_as_sent: str | None
    display_name: str | None
    card_type: CardType
    active: bool
    steve: SteveCard | None
    mirrored_at: AwareDatetime | None
    link: LinkView | None
    children: list[str]
    card_id: UUID | None = None
    cardholder: str | None = None
    notes: str | None = None
    block_kind: Literal["operator", "policy"] | None = None
    block_reason: str | None = None
    blocked_by: str | None = None
    blocked_at: AwareDatetime | None = None
    remembered_limit: int | None = None
    last_change_id: UUID | None = Field(None, description="this house's newest change, which undo_change can undo")
    ancestors: list[str] = Field(default_factory=list, description="the parent, its parent and so on")
    parent_cycle: bool = Field(default=False, description="the parents run in a circle, which is not followed")


class GetCard(Request[CardView]):
    name: ClassVar[str] = "get_card"
    owner: ClassVar[str] = "sync"
    reply = CardView
    id_tag: CardKey


class CardPage(Frozen):
    cards: list[CardView]
    next_cursor: str | None = None


class SearchCards(Request[CardPage]):
    """`text` is looked for in the idTag and the display name. Ordered by idTag."""

    name: ClassVar[str] = "search_cards"
    owner: ClassVar[str] = "sync"
    reply = CardPage
    text: str | None = Field(None, max_length=100)
    linked: bool | None = None
    limit: int = Field(50, ge=1, le=MAX_ROWS)
    cursor: str | None = None


class SteveAnswer(Frozen):
    """What SteVe says now. `card` is None where it has no such tag; `problem` says why it was not asked."""

    answered: bool
    card: SteveCard | None
    parent: SteveCard | None = None
    asked_at: AwareDatetime
    problem: str | None = None


class ReadCardInSteve(Request[SteveAnswer]):
    """Ask SteVe itself, now, about a tag and its parent."""

    name: ClassVar[str] = "read_card_in_steve"
    owner: ClassVar[str] = "sync"
    reply = SteveAnswer
    id_tag: CardKey


class LinkCard(Request[CardView]):
    """Bill this card's sessions that start at or after `valid_from` (default: now) to this subscription."""

    name: ClassVar[str] = "link_card"
    owner: ClassVar[str] = "sync"
    command: ClassVar[bool] = True
    reply = CardView
    id_tag: CardKey
    external_customer_id: str = Field(min_length=1, max_length=255)
    external_subscription_id: str = Field(min_length=1, max_length=255)
    valid_from: AwareDatetime | None = None
    release_from: AwareDatetime | None = Field(
        None, description="release sessions held for want of this link that began then or later; None: none"
    )


class SubscriptionView(Frozen):
    external_subscription_id: str
    external_customer_id: str
    status: str
    plan_code: str
    name: str | None
    started_at: AwareDatetime | None
    ending_at: AwareDatetime | None


class CustomerView(Frozen):
    external_customer_id: str
    name: str | None
    subscriptions: list[SubscriptionView]


class CustomerPage(Frozen):
    answered: bool
    customers: list[CustomerView]
    problem: str | None = None
    next_cursor: str | None = None


class SearchCustomers(Request[CustomerPage]):
    """Lago's customers with their active subscriptions. `text` is looked for in name, e-mail address and id, newest
    customers first, so that one whose id is `12` may come after many others; `external_customer_id` is that one alone.
    """

    name: ClassVar[str] = "search_customers"
    owner: ClassVar[str] = "sync"
    reply = CustomerPage
    text: str | None = Field(None, max_length=100)
    external_customer_id: str | None = Field(None, min_length=1, max_length=255)
    limit: int = Field(20, ge=1, le=100)
    cursor: str | None = None


class SubscriptionAnswer(Frozen):
    """What Lago says now. Not answered is never the same as no subscription."""

    answered: bool
    subscription: SubscriptionView | None
    asked_at: AwareDatetime
    problem: str | None = None


class GetSubscription(Request[SubscriptionAnswer]):
    name: ClassVar[str] = "get_subscription"
    owner: ClassVar[str] = "sync"
    reply = SubscriptionAnswer
    external_subscription_id: str


class Billing(Frozen):
    state: BillingState
    at: AwareDatetime | None = None
    reason: str | None = None
    explanation: str | None = None
    external_subscription_id: str | None = None
    usage_event_id: str | None = None
    external_customer_id: str | None = None
    billed_wh: int = 0
    note: str | None = None


class SessionView(Frozen):
    """A charging session as SteVe recorded it, with how its billing stands. Energies in Wh, None where a reading is
    no number. `provisional`: stopped by hand, the station's own stop may still replace it.
    """

    session: str
    charge_box_id: str
    connector_id: int
    id_tag: str
    started_at: AwareDatetime
    stopped_at: AwareDatetime | None
    start_wh: int | None
    stop_wh: int | None
    energy_wh: int | None
    stop_reason: str | None
    billing: Billing
    provisional: bool = False


class SessionPage(Frozen):
    sessions: list[SessionView]
    next_cursor: str | None = None


class SearchSessions(Request[SessionPage]):
    """Newest first."""

    name: ClassVar[str] = "search_sessions"
    owner: ClassVar[str] = "sync"
    reply = SessionPage
    id_tag: CardKey | None = None
    charge_box_id: str | None = None
    billing: BillingState | None = None
    external_subscription_id: str | None = None
    open_only: bool = Field(False, description="only those that SteVe has no end of")
    limit: int = Field(50, ge=1, le=MAX_ROWS)
    cursor: str | None = None


class GetSession(Request[SessionView]):
    name: ClassVar[str] = "get_session"
    owner: ClassVar[str] = "sync"
    reply = SessionView
    session: str


class UpstreamView(Frozen):
    """How an upstream stands: `state` is ok, lost or unknown (not asked yet)."""

    upstream: Upstream
    state: Literal["ok", "lost", "unknown"]
    since: AwareDatetime
    checked_at: AwareDatetime | None
    reason: str | None = None
    explanation: str | None = None


class FailedWebhook(Frozen):
    unique_key: str
    webhook_type: str
    received_at: AwareDatetime
    why: str


class WebhookStanding(Frozen):
    """How Lago's webhooks stand. A failed one is tried anew when Lago sends it again, or when somebody replays it;
    polling finds what it told.
    """

    received_at: AwareDatetime | None = Field(description="the newest; None: none ever came")
    waiting: int
    failed: int
    newest_failed: list[FailedWebhook] = Field(default_factory=list, description="at most 10")


class UpstreamList(Frozen):
    upstreams: list[UpstreamView]
    webhooks: WebhookStanding | None = None


class GetUpstreams(Request[UpstreamList]):
    name: ClassVar[str] = "get_upstreams"
    owner: ClassVar[str] = "sync"
    reply = UpstreamList


class WebhooksReplayed(Frozen):
    """`replayed` wait to be acted on again. `unknown` were never received, or were forgotten after 90 days."""

    replayed: int
    unknown: list[str] = Field(default_factory=list)


class ReplayWebhooks(Request[WebhooksReplayed]):
    """Act on stored webhooks again, whatever came of them: these, or, with `failed`, all that were given up. They are
    hints of what to look at, so acting twice does no harm.
    """

    name: ClassVar[str] = "replay_webhooks"
    owner: ClassVar[str] = "sync"
    command: ClassVar[bool] = True
    reply = WebhooksReplayed
    unique_keys: list[str] = Field(default_factory=list, max_length=MAX_ROWS)
    failed: bool = False


ChargerOperation = Literal[
    "GetConfiguration",
    "ClearCache",
    "RemoteStartTransaction",
    "RemoteStopTransaction",
    "UnlockConnector",
    "Reset",
    "ChangeAvailability",
    "ChangeConfiguration",
    "TriggerMessage",
]
OperationOutcome = Literal["accepted", "rejected", "not_connected", "failed", "unknown"]
"""`accepted` and `rejected` are the charger's word, `not_connected` is SteVe's. `failed`: an error came back, nothing
was done. `unknown`: no answer in time, it may have been done.
"""


class OperationResult(Frozen):
    """`response` is what the charger answered, as SteVe shows it: `{"status": ...}`, or for GetConfiguration
    `{"configurationKeys": [{"key", "value", "readonly"}], "unknownKeys": [...]}`. Values of keys that are not in OCPP
    1.6, chapter 9, may be secret: they are in the first answer only, and `•••` when the same key is sent again.
    """

    charge_box_id: str
    operation: ChargerOperation
    outcome: OperationOutcome
    response: dict[str, Any] = Field(default_factory=dict)
    problem: str | None = None
    asked_at: AwareDatetime
    answered_at: AwareDatetime | None = None


class OperateCharger(Request[OperationResult]):
    """Have SteVe call a charger. Never retried; `parameters` as SteVe's form names them, without chargeBoxIdList.

    The `value` of ChangeConfiguration goes to the charger only, and is `•••` wherever the operation is told of, unless
    its key is one of OCPP 1.6, chapter 9; what has none of the form's names is refused. Another value that is masked
    makes no other operation, neither under the same idempotency key nor while one is under way.
    """

    name: ClassVar[str] = "operate_charger"
    owner: ClassVar[str] = "sync"
    command: ClassVar[bool] = True
    reply = OperationResult
    charge_box_id: str = Field(min_length=1, max_length=255)
    operation: ChargerOperation
    parameters: dict[str, Any] = Field(default_factory=dict)

    def open_data(self, data: dict[str, Any]) -> dict[str, Any]:
        return data | {"parameters": told_parameters(self.parameters)}

    def kept_value(self, value: dict[str, Any]) -> dict[str, Any]:
        return value | {"response": told_response(value["response"])}
