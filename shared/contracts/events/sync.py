"""What sync tells: cards and their links, sessions and their billing, the state of SteVe and Lago."""

from typing import Any, ClassVar, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field

from shared.contracts.event import Event
from shared.contracts.identity import CardKey

Upstream = Literal["steve", "lago"]


class _SyncEvent(Event):
    owner: ClassVar[str] = "sync"
    version: ClassVar[int] = 1


class _CardEvent(_SyncEvent):
    id_tag: CardKey

    def subject(self) -> str:
        return f"card/{self.id_tag}"


class CardDiscovered(_CardEvent):
    """SteVe has a tag that this house had not seen."""

    type: ClassVar[str] = "card.discovered"
    ocpp_tag_pk: int
    parent_id_tag: str | None
    blocked: bool
    expiry: AwareDatetime | None


class CardChanged(_CardEvent):
    """Fields of a card changed. Personal ones (`personal_fields`) travel as names only, with the change's id.

    With `block_kind` among them, an operator's block was taken off one that was there before, and stands.
    """

    type: ClassVar[str] = "card.changed"
    change_id: UUID
    before: dict[str, Any]
    after: dict[str, Any]
    personal_fields: list[str] = Field(default_factory=list)


class _CardCommandEvent(_CardEvent):
    change_id: UUID


class CardBlocked(_CardCommandEvent):
    """Its limit was set to 0 by this house. `kind`: by an operator, or by the policy for unlinked or inactive cards."""

    type: ClassVar[str] = "card.blocked"
    kind: Literal["operator", "policy"]
    reason: str
    limit_before: int


class CardUnblocked(_CardCommandEvent):
    type: ClassVar[str] = "card.unblocked"
    kind: Literal["operator", "policy"]
    limit: int


class CardParentChanged(_CardCommandEvent):
    """It was put under another card by this house. A change made in SteVe itself is a card.changed."""

    type: ClassVar[str] = "card.parent_changed"
    before: str | None
    after: str | None


class _LinkEvent(_CardEvent):
    change_id: UUID
    external_customer_id: str
    external_subscription_id: str
    valid_from: AwareDatetime


class CardLinked(_LinkEvent):
    """From `valid_from` on, sessions of this card are billed to this subscription."""

    type: ClassVar[str] = "card.linked"


class CardUnlinked(_LinkEvent):
    type: ClassVar[str] = "card.unlinked"
    valid_to: AwareDatetime


class CardRelinked(_LinkEvent):
    """The card moved to another subscription; sessions that started before `valid_from` stay where they were."""

    type: ClassVar[str] = "card.relinked"
    previous_external_customer_id: str
    previous_external_subscription_id: str


class TransactionEvent(_SyncEvent):
    session: str
    charge_box_id: str
    id_tag: CardKey

    def subject(self) -> str:
        return f"session/{self.session}"


class TransactionStarted(TransactionEvent):
    """SteVe recorded a transaction's start. It does not prove that the card was authorised."""

    type: ClassVar[str] = "transaction.started"
    connector_id: int
    started_at: AwareDatetime
    start_wh: int | None


class TransactionStopped(TransactionEvent):
    """SteVe recorded its end, or another end than before. A session first seen finished has no transaction.started.

    Readings are None where the station reported no number.
    """

    type: ClassVar[str] = "transaction.stopped"
    connector_id: int
    started_at: AwareDatetime
    stopped_at: AwareDatetime
    start_wh: int | None
    stop_wh: int | None
    stop_reason: str | None
    provisional: bool = Field(description="a manual stop, which the station's own may still replace")


class _BilledEvent(TransactionEvent):
    seq: int = Field(ge=1)
    from_wh: int
    to_wh: int
    usage_event_id: str
    external_customer_id: str
    external_subscription_id: str
    final: bool = Field(
        description="made by the station's own stop. A session has none such where a step had reached its end already,"
        " or as long as only a person stopped it"
    )


class TransactionSynced(_BilledEvent):
    """Lago acknowledged the usage event."""

    type: ClassVar[str] = "transaction.synced"


class TransactionCounted(_BilledEvent):
    """The usage event was read back from Lago as counted."""

    type: ClassVar[str] = "transaction.counted"


class TransactionHeld(TransactionEvent):
    """The session is not billed, and why. `energy_wh` is what waits."""

    type: ClassVar[str] = "transaction.held"
    reason: str
    explanation: str
    energy_wh: int


class TransactionReleased(TransactionEvent):
    type: ClassVar[str] = "transaction.released"
    reason: str = Field(description="what it was held for; `ignored`: that it was ignored is taken back")


class TransactionIgnored(TransactionEvent):
    """An operator decided that it is not to be billed. Why stands in a note, which stays in sync.

    With `changed_since_ignored`, told by the system: it is again as it was when they did.
    """

    type: ClassVar[str] = "transaction.ignored"
    reason: str = Field(description="what it was held for")
    energy_wh: int


class TransactionCorrected(TransactionEvent):
    """Its end changed after it had been billed; the difference is a usage event of its own, perhaps negative."""

    type: ClassVar[str] = "transaction.corrected"
    seq: int
    before_wh: int
    after_wh: int


class _OperationEvent(_SyncEvent):
    operation_id: UUID
    charge_box_id: str
    operation: str

    def subject(self) -> str:
        return f"charger/{self.charge_box_id}"


class ChargerOperationRequested(_OperationEvent):
    """Told before SteVe is asked; whatever happens, it is not asked again.

    `parameters` as in operate_charger, with `•••` for each that may be a secret, above all the `value` of a
    ChangeConfiguration whose key is not one of OCPP 1.6, chapter 9.
    """

    type: ClassVar[str] = "charger.operation_requested"
    parameters: dict[str, Any]


class ChargerOperationFinished(_OperationEvent):
    """`outcome` as in the reply of operate_charger; unknown: it may have been done."""

    type: ClassVar[str] = "charger.operation_finished"
    outcome: Literal["accepted", "rejected", "not_connected", "failed", "unknown"]
    problem: str | None


class _RunEvent(_SyncEvent):
    run_id: UUID
    trigger: Literal["schedule", "event", "operator"]
    segments: list[str]

    def subject(self) -> str:
        return f"sync_run/{self.run_id}"


class SyncRunStarted(_RunEvent):
    """Scheduled looks that find nothing are no runs, and not told."""

    type: ClassVar[str] = "sync_run.started"
    cursor_before: int


class SyncRunFinished(_RunEvent):
    """seen = billed + already_billed + held + ignored + failed."""

    type: ClassVar[str] = "sync_run.finished"
    cursor_after: int
    seen: int
    billed: int
    already_billed: int
    held: int
    ignored: int
    failed: int
    problem: str | None = None


class ReconcileMismatchFound(_SyncEvent):
    """SteVe, ledger, sent and counted differ for a subscription in a period. In Wh; None: Lago did not answer."""

    type: ClassVar[str] = "reconcile.mismatch_found"
    external_subscription_id: str
    period_from: AwareDatetime
    period_to: AwareDatetime
    steve_wh: int
    ledger_wh: int
    sent_wh: int
    counted_wh: int | None
    sessions: list[str]
    explanation: str

    def subject(self) -> str:
        return f"subscription/{self.external_subscription_id}"


class WebhookReceived(_SyncEvent):
    """Lago told something, and the signature is Lago's. `object_id` is the external id of what it is about."""

    type: ClassVar[str] = "webhook.received"
    unique_key: str
    webhook_type: str
    object_type: str
    object_id: str | None

    def subject(self) -> str:
        return f"webhook/{self.unique_key}"


class _UpstreamEvent(_SyncEvent):
    upstream: Upstream
    since: AwareDatetime

    def subject(self) -> str:
        return f"upstream/{self.upstream}"


class UpstreamLost(_UpstreamEvent):
    """An upstream stopped answering as it should. `reason` names the state, `explanation` says it in words."""

    type: ClassVar[str] = "upstream.lost"
    reason: str
    explanation: str


class UpstreamRecovered(_UpstreamEvent):
    type: ClassVar[str] = "upstream.recovered"
    lost_since: AwareDatetime
