"""A tap, what was decided about it, and the port that hook and gateway ask."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

import msgspec

from services.preauth.decision.rules import Reason
from shared.contracts.events.preauth import TapKind, Told, Via
from shared.contracts.identity import IdTag, id_tag_key


class Tap(msgspec.Struct, frozen=True):
    """A card presented at a charger, as one call told it.

    `id_tag_as_sent` has at most 255 characters and no NUL; `charge_box_id` is percent-decoded. `arrived` is
    `time.monotonic()` at the moment the call came in: deadlines count from it. `sent_at` is the caller's own clock
    (the hook's `ts`), `signed_at` the time under its signature where it has one, `message_id` the call's name where it
    has one (Standard Webhooks, `webhook-id`). `tap_id` is given by a caller that names its taps itself. `remote_start`:
    the caller saw SteVe ask for a start with this card just before.
    """

    id_tag_as_sent: str
    charge_box_id: str
    kind: TapKind
    via: Via
    arrived: float
    connector_id: int | None = None
    sent_at: datetime | None = None
    signed_at: datetime | None = None
    message_id: str | None = None
    tap_id: UUID | None = None
    remote_start: bool = False

    @property
    def id_tag(self) -> IdTag:
        return id_tag_key(self.id_tag_as_sent)


class Decision(msgspec.Struct, frozen=True):
    """What to tell. `block` is only what was decided: call `Decider.may_block` at the moment of answering.

    `repeat` marks a call for a tap that was answered before: it has no journal row of its own. `journalled` is false
    where the tap went to the spool: there it passed, unless it is told otherwise.
    """

    tap: Tap
    tap_id: UUID
    received_at: datetime
    block: bool
    reason: Reason
    pairing_id: UUID | None = None
    correlation_id: UUID | None = None
    repeat: bool = False
    journalled: bool = True


@dataclass(frozen=True, slots=True)
class MatchAnswered:
    """What was told about a tap that matched a pairing: rare, and worth a transaction of its own."""

    decision: Decision
    told: Told
    told_at: datetime
    in_time: bool
    duration_us: int


class SteveAnswered(msgspec.Struct, frozen=True):
    """What SteVe answered to a tap that passed the gateway: an idTagInfo status, or `error:<code>`."""

    tap_id: UUID
    received_at: datetime
    charge_box_id: str
    id_tag: IdTag
    kind: TapKind
    verdict: str


class Decider(Protocol):
    """The one place that decides taps. Hook and gateway share it, so that one tap has one answer.

    Use: `decision = await decider.decide(tap)`; if `decider.may_block(decision)` then answer Blocked, else let it
    pass; right after the answer was written, `decider.told(decision, "blocked" | "passed")`. Where the answer could
    not be written (the caller is gone), tell "unknown": then nobody is logged in by it.
    """

    async def decide(self, tap: Tap) -> Decision:
        """Decide within the deadline. Never raises, and passes the tap where it cannot decide (fail open)."""
        ...

    def may_block(self, decision: Decision) -> bool:
        """Whether Blocked may be answered now: it was decided, and there is still time."""
        ...

    def told(self, decision: Decision, told: Told, at: datetime | None = None) -> None:
        """Record what was answered, and when (default: now). Neither waits nor raises. Call it exactly once."""
        ...
