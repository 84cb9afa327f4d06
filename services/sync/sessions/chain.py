"""What happens to a session by itself is one chain, from its start to the moment when Lago counts it."""

from collections.abc import Iterable
from typing import Final
from uuid import UUID, uuid5

from shared.contracts.event import Event
from shared.contracts.events.sync import TransactionEvent
from shared.contracts.identity import Actor, Cause

# Never changed: what was told before would be of another chain.
_SESSIONS: Final = UUID("51fe84cb-4c20-42e0-af7a-70dcf664eb51")


def chain(session: str) -> UUID:
    """Its correlation id: derived, so that whoever tells of it has the same one (docs/decisions/0016)."""
    return uuid5(_SESSIONS, session)


def by_itself(events: Iterable[TransactionEvent], actor: Actor) -> list[tuple[Event, Cause]]:
    """Events that no person's command caused, each in the chain of its session."""
    return [(event, Cause(actor=actor, correlation_id=chain(event.session))) for event in events]
