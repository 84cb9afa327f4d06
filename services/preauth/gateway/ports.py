"""What the gateway needs of others: a desk that decides about taps, and a watcher that keeps what passed."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from services.preauth.chargers.seen import Seen
from shared.contracts.events.preauth import TapKind, Told


@dataclass(frozen=True, slots=True, kw_only=True)
class Presented:
    """A card, presented at a charger behind the gateway.

    `id_tag` is as sent. `kind` start: a StartTransaction, which always reaches SteVe, so that interception is out of
    the question and only the journal cares. `remote_start`: SteVe asked for a start with this card just before.
    """

    tap_id: UUID
    charge_box_id: str
    id_tag: str
    kind: TapKind
    connector_id: int | None
    at: datetime
    remote_start: bool


class TapDesk(Protocol):
    """Decides about taps, and is told what became of each."""

    async def decide(self, tap: Presented) -> bool:
        """Whether to answer Blocked instead of asking SteVe. The caller stops waiting at its own deadline."""
        ...

    def told(self, tap: Presented, told: Told, *, in_time: bool) -> None:
        """What the charger was told, once it was written to its socket; unknown where the socket was gone.

        Passed, also for a tap that nobody was asked about: a gateway that stops has no time for an answer.
        """
        ...

    def answered(self, tap: Presented, verdict: str) -> None:
        """What SteVe answered to a tap that was passed on: an idTagInfo status, or `error:<code>`."""
        ...


class Watcher(Protocol):
    """Takes what passed. Called between two frames: it must neither wait nor raise."""

    def saw(self, seen: Seen) -> None: ...
