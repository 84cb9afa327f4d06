"""What a charger and SteVe say to each other, as far as a call and its answer have to be understood together."""

from collections.abc import Callable
from datetime import datetime
from typing import Final, NamedTuple, TypeVar

from services.preauth.chargers.seen import RemoteStartPassed, RemoteStartRefused, Seen
from services.preauth.gateway import rules
from services.preauth.gateway.ports import Presented
from services.preauth.gateway.rules import Call, Known, RemoteStartTransaction
from shared.contracts.identity import IdTag, id_tag_key
from shared.runtime.log import get_logger

log = get_logger(__name__)

A = TypeVar("A")
B = TypeVar("B")

# Calls whose answers we want to see. OCPP allows one at a time and direction; a few more are tolerated.
REMEMBERED_CALLS: Final = 32
# How long an Authorize can belong to a RemoteStart. OCPP's ConnectionTimeOut is typically 60 s.
REMOTE_START_S: Final = 120.0


class Heard(NamedTuple):
    """What SteVe's answer tells: for the watcher, and for the desk that decided about the tap."""

    seen: Seen | None
    tap: Presented | None
    verdict: str | None


class Conversation:
    """One charger's, over one socket. Remembers little, forgets the oldest first. `now` is monotonic, in seconds."""

    __slots__ = ("_calls", "_charge_box_id", "_remote_calls", "_remote_starts")

    def __init__(self, charge_box_id: str) -> None:
        self._charge_box_id = charge_box_id
        self._calls: dict[str, tuple[Known, Presented | None]] = {}
        self._remote_calls: dict[str, IdTag] = {}
        self._remote_starts: dict[IdTag, float] = {}

    @property
    def waits_for_steve(self) -> bool:
        return bool(self._calls)

    @property
    def waits_for_charger(self) -> bool:
        return bool(self._remote_calls)

    def called(self, call: Call, message: Known, at: datetime, tap: Presented | None = None) -> Seen | None:
        """The charger's call went to SteVe; its answer will be understood. Returns what is known already."""
        _remember(self._calls, call.message_id, (message, tap))
        return rules.seen_when_called(self._charge_box_id, message, at)

    def answered(self, text: bytes | bytearray, at: datetime) -> Heard | None:
        """SteVe's answer passed."""
        answer = attempt(rules.read_answer, text)
        known = self._calls.pop(answer.message_id, None) if answer is not None else None
        if answer is None or known is None:
            return None
        message, tap = known
        verdict = rules.verdict(message, answer) if tap is not None else None
        return Heard(rules.seen_when_answered(self._charge_box_id, message, answer, at), tap, verdict)

    def called_by_steve(self, text: bytes | bytearray, at: datetime, now: float) -> Seen | None:
        """A call of SteVe passed; only a RemoteStart means something to us."""
        call, message = attempt(rules.read_known, text) or (None, None)
        if call is None or not isinstance(message, RemoteStartTransaction):
            return None
        card = id_tag_key(message.id_tag)
        _remember(self._remote_calls, call.message_id, card)
        _remember(self._remote_starts, card, now)
        return RemoteStartPassed(
            charge_box_id=self._charge_box_id,
            at=at,
            id_tag=rules.clean(message.id_tag) or "",
            connector_id=message.connector_id,
        )

    def answered_by_charger(self, text: bytes | bytearray, at: datetime) -> Seen | None:
        """A charger that refused the RemoteStart will not authorize because of it."""
        answer = attempt(rules.read_answer, text)
        card = self._remote_calls.pop(answer.message_id, None) if answer is not None else None
        if answer is None or card is None or rules.accepted(answer):
            return None
        self._remote_starts.pop(card, None)
        return RemoteStartRefused(charge_box_id=self._charge_box_id, at=at, id_tag=rules.clean(card) or "")

    def started_remotely(self, id_tag: str, now: float) -> bool:
        """Whether SteVe asked for a start with this card a moment ago."""
        asked = self._remote_starts.get(id_tag_key(id_tag))
        return asked is not None and now - asked <= REMOTE_START_S

    def session_began(self, id_tag: str) -> None:
        self._remote_starts.pop(id_tag_key(id_tag), None)


def attempt(reader: Callable[[A], B | None], what: A) -> B | None:
    """What `reader` makes of it; None for anything that it cannot bear, which is then SteVe's to judge."""
    try:
        return reader(what)
    except Exception as error:  # noqa: BLE001 - charging fails open, also over a fault of ours
        log.warning("A frame could not be read.", action="gateway.unreadable", error=repr(error))
        return None


K = TypeVar("K")


def _remember(memory: dict[K, B], key: K, what: B) -> None:
    """Keep the newest few: a peer that never answers must not fill the memory."""
    memory.pop(key, None)
    memory[key] = what
    if len(memory) > REMEMBERED_CALLS:
        del memory[next(iter(memory))]
