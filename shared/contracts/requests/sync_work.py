"""The held queue, runs, cadence and reconciliation."""

from typing import ClassVar, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field

from shared.contracts.identity import CardKey, Frozen
from shared.contracts.request import MAX_ROWS, Request
from shared.contracts.requests.sync import SessionView

# The held queue


class HeldView(Frozen):
    """A session that is not billed. `amount_cents` is what waits, where the plan has a price for a kWh."""

    session: SessionView
    reason: str
    explanation: str
    remedy: str | None
    held_at: AwareDatetime
    energy_wh: int
    amount_cents: int | None
    currency: str | None


class Amount(Frozen):
    """Money in one currency."""

    currency: str = Field(description="ISO 4217")
    cents: int


class HeldClass(Frozen):
    """All sessions held for one reason. `amounts` is what waits where a plan has a price for a kWh, by currency."""

    reason: str
    remedy: str | None
    count: int
    energy_wh: int
    amounts: list[Amount]
    oldest_at: AwareDatetime


class HeldPage(Frozen):
    held: list[HeldView]
    classes: list[HeldClass]
    next_cursor: str | None = None


class SearchHeld(Request[HeldPage]):
    """Longest held first; `classes` are over the whole queue, whatever the filter."""

    name: ClassVar[str] = "search_held"
    owner: ClassVar[str] = "sync"
    reply = HeldPage
    reason: str | None = None
    id_tag: CardKey | None = None
    charge_box_id: str | None = None
    limit: int = Field(50, ge=1, le=MAX_ROWS)
    cursor: str | None = None


class OwnerChanged(Frozen):
    """A session that is billed to another customer than the one who it was kept for."""

    session: str
    previous_external_customer_id: str
    external_customer_id: str


class HeldChanged(Frozen):
    """The sessions that were taken up, and why others were not. All that were meant are decided about; of many, only
    some are named.
    """

    sessions: list[str] = Field(max_length=MAX_ROWS)
    refused: dict[str, str] = Field(default_factory=dict, max_length=MAX_ROWS)
    owners_changed: list[OwnerChanged] = Field(default_factory=list, max_length=MAX_ROWS)
    count: int = Field(0, description="how many were taken up, named or not")


class RetryHeld(Request[HeldChanged]):
    """Decide again: these sessions, or all of one reason, or all. Nothing is let pass.

    A session that is named need not be held: what Lago lost of it is sent again under the same id, and what the ledger
    has otherwise than SteVe is settled again. Nor need it be unsettled: that it was ignored is taken back.
    """

    name: ClassVar[str] = "retry_held"
    owner: ClassVar[str] = "sync"
    command: ClassVar[bool] = True
    reply = HeldChanged
    sessions: list[str] = Field(default_factory=list, max_length=MAX_ROWS)
    reason: str | None = None
    everything: bool = False


class IgnoreHeld(Request[HeldChanged]):
    """These are not to be billed; the note says why. Should SteVe record other energy of one later, it is held again as
    `changed_since_ignored`; a retry by its name takes the ignoring back.
    """

    name: ClassVar[str] = "ignore_held"
    owner: ClassVar[str] = "sync"
    command: ClassVar[bool] = True
    reply = HeldChanged
    sessions: list[str] = Field(min_length=1, max_length=MAX_ROWS)
    note: str = Field(min_length=1, max_length=1000)


class ReleaseHeld(Request[HeldChanged]):
    """Bill them although: the anomaly they are held for is let pass, and one without an owner gets the one that the
    card has now, if it had none when it began. Given `id_tag`: all sessions of this card, and of those below it without
    a link of their own, that began at or after `since` and are held for want of an owner.

    One that has an owner, whom Lago bills no longer, is released by its name only: to another subscription of the same
    customer, or with `change_owner` to another customer.
    """

    name: ClassVar[str] = "release_held"
    owner: ClassVar[str] = "sync"
    command: ClassVar[bool] = True
    reply = HeldChanged
    sessions: list[str] = Field(default_factory=list, max_length=MAX_ROWS)
    id_tag: CardKey | None = None
    since: AwareDatetime | None = None
    change_owner: bool = Field(default=False, description="also to another customer; only with sessions")
    note: str | None = Field(None, max_length=1000)


# Runs

RunTrigger = Literal["schedule", "event", "operator"]
RunState = Literal["waiting", "running", "finished", "failed"]
Segment = Literal["cards", "new", "open", "sweep", "settle", "deliver"]
CadenceMode = Literal["active", "idle", "dormant"]


class RunCounters(Frozen):
    """seen = billed + already_billed + held + ignored + failed. `still_open` are not among the seen ones.

    A scheduled run leaves what is still in hand when its time is over to the next one: a session is counted once, by
    the run that knows how it ended.
    """

    seen: int = 0
    billed: int = 0
    already_billed: int = 0
    held: int = 0
    ignored: int = 0
    failed: int = 0
    still_open: int = 0


class RunView(Frozen):
    """`segment` is what it is at; `cursor_*` are transaction ids in SteVe."""

    run_id: UUID
    trigger: RunTrigger
    requested_by: str
    state: RunState
    segments: list[Segment]
    segment: Segment | None
    requested_at: AwareDatetime
    started_at: AwareDatetime | None
    finished_at: AwareDatetime | None
    cursor_before: int | None
    cursor_after: int | None
    counters: RunCounters
    done: int = Field(description="transactions read so far")
    expected: int | None = Field(None, description="of how many, where that is known")
    problem: str | None = None


class RunSessionView(Frozen):
    session: str
    outcome: Literal["billed", "already_billed", "held", "ignored", "failed", "open"]
    detail: str | None


class StartRun(Request[RunView]):
    """Ask for a run by hand; it begins when the one under way has ended."""

    name: ClassVar[str] = "start_run"
    owner: ClassVar[str] = "sync"
    command: ClassVar[bool] = True
    reply = RunView
    segments: list[Segment] = Field(default_factory=list, description="empty: all but the sweep")


class RunPage(Frozen):
    runs: list[RunView]
    cadence: CadenceMode
    pinned: bool
    next_cursor: str | None = None


class ListRuns(Request[RunPage]):
    """Newest first. Scheduled looks that found nothing are not kept."""

    name: ClassVar[str] = "list_runs"
    owner: ClassVar[str] = "sync"
    reply = RunPage
    state: RunState | None = None
    limit: int = Field(50, ge=1, le=MAX_ROWS)
    cursor: str | None = None


class RunDetail(Frozen):
    run: RunView
    sessions: list[RunSessionView]
    next_cursor: str | None = None


class GetRun(Request[RunDetail]):
    name: ClassVar[str] = "get_run"
    owner: ClassVar[str] = "sync"
    reply = RunDetail
    run_id: UUID
    outcome: str | None = None
    limit: int = Field(100, ge=1, le=MAX_ROWS)
    cursor: str | None = None


class CadenceView(Frozen):
    mode: CadenceMode
    since: AwareDatetime
    pinned: bool
    pinned_by: str | None
    seconds: float = Field(description="between two looks at SteVe")
    why: str


class PinCadence(Request[CadenceView]):
    """Fix how often SteVe is looked at; None lets it follow what happens again."""

    name: ClassVar[str] = "pin_cadence"
    owner: ClassVar[str] = "sync"
    command: ClassVar[bool] = True
    reply = CadenceView
    mode: CadenceMode | None


# Reconciliation


class ReconcileDifference(Frozen):
    """One cause of a difference. `wh`: by how much Lago counts more, or, negative, less because of it."""

    kind: str
    wh: int
    explanation: str
    proposal: str
    session: str | None = None
    usage_event_id: str | None = None


class ReconcileRow(Frozen):
    """One subscription in one period. In Wh; `counted_wh` is None where Lago did not answer."""

    external_subscription_id: str
    external_customer_id: str
    period_from: AwareDatetime
    period_to: AwareDatetime
    steve_wh: int = Field(description="what finished sessions that are billed here used, by SteVe's record")
    ledger_wh: int
    sent_wh: int
    counted_wh: int | None
    held_wh: int = Field(description="of the same owner, not billed and therefore in none of the others")
    ignored_wh: int = Field(0, description="of the same owner, ignored by an operator and in none of the others")
    equal: bool | None = Field(description="None: cannot be told")
    problem: str | None = None
    sessions: list[str] = Field(default_factory=list, description="behind the difference, at most 50")
    proposals: list[str] = Field(default_factory=list, description="what would repair it; nothing was done")
    waiting_wh: int = Field(0, description="on its way to Lago, and therefore in none of the others")
    differences: list[ReconcileDifference] = Field(
        default_factory=list, description="counted_wh - steve_wh is their sum; at most 50, or 5 where several rows are"
    )
    difference_count: int = 0
    checked_at: AwareDatetime | None = None


class ReconcileResult(Frozen):
    rows: list[ReconcileRow]
    checked_at: AwareDatetime
    next_cursor: str | None = None


class Reconcile(Request[ReconcileResult]):
    """Prove, for one subscription or all that were ever billed, in their current period: SteVe = ledger = sent =
    counted. For one, also a few of its earlier periods that differed, which may be repaired by now. With `stored`, the
    kept results of earlier proofs, of all periods, instead: nobody is asked.

    No command, although what was found is kept, and told where it differs: a proof changes nothing of what it proves,
    and proving twice is proving better, so it needs no key.
    """

    name: ClassVar[str] = "reconcile"
    owner: ClassVar[str] = "sync"
    reply = ReconcileResult
    external_subscription_id: str | None = None
    limit: int = Field(50, ge=1, le=MAX_ROWS)
    stored: bool = False
    differing: bool = Field(default=False, description="stored ones only where something differs")
    cursor: str | None = None
