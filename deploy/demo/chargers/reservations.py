"""Connectors that are kept for one card (OCPP 1.6, 5.2 and 5.13)."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from deploy.demo.chargers.session import Connector


@dataclass(frozen=True)
class Reservation:
    reservation_id: int
    connector_id: int
    id_tag: str
    expires_at: datetime
    parent_id_tag: str | None = None

    def admits(self, id_tag: str, parent_id_tag: str | None) -> bool:
        """The card itself, or one of the same parent."""
        same_parent = self.parent_id_tag is not None and parent_id_tag is not None
        return _key(id_tag) == _key(self.id_tag) or (
            same_parent and _key(str(parent_id_tag)) == _key(str(self.parent_id_tag))
        )


class Reservations:
    """At most one a connector; one that is over holds nothing any more."""

    def __init__(self, connectors: dict[int, Connector], clock: Callable[[], datetime]) -> None:
        self._connectors = connectors
        self._clock = clock
        self._by_connector: dict[int, Reservation] = {}

    def at(self, connector_id: int) -> Reservation | None:
        held = self._by_connector.get(connector_id)
        return held if held is not None and held.expires_at > self._clock() else None

    def hold(self, wanted: Reservation) -> str:
        """The status to answer. The same id again replaces what it held."""
        connector = self._connectors.get(wanted.connector_id)
        if connector is None:  # connector 0, any one of them, is not supported (ReserveConnectorZeroSupported)
            return "Rejected"
        held = self.at(wanted.connector_id)
        if connector.status == "Faulted":
            return "Faulted"
        if not connector.available:
            return "Unavailable"
        if connector.session is not None or (held is not None and held.reservation_id != wanted.reservation_id):
            return "Occupied"
        self._by_connector[wanted.connector_id] = wanted
        return "Accepted"

    def end(self, reservation_id: int, *, but_at: int | None = None) -> int | None:
        """Give up a reservation, except at one connector; the connector that it held."""
        for connector_id, held in self._by_connector.items():
            if held.reservation_id == reservation_id and connector_id != but_at:
                del self._by_connector[connector_id]
                return connector_id
        return None

    def expire(self, held: Reservation) -> bool:
        """Forget one whose time is over; False where it ended otherwise, or another one took its place."""
        if self._by_connector.get(held.connector_id) is not held:
            return False
        del self._by_connector[held.connector_id]
        return True

    def keeps_out(self, connector_id: int, id_tag: str, parent_id_tag: str | None) -> bool:
        held = self.at(connector_id)
        return held is not None and not held.admits(id_tag, parent_id_tag)


def _key(id_tag: str) -> str:
    return id_tag.strip().upper()
