"""A WebSocket's two ends without a socket, of `websockets`, with what a relay does otherwise."""

import logging
from collections.abc import Sequence
from typing import Final

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

# What SteVe takes (facts: the OCPP-J endpoint); larger closes 1009.
MAX_TEXT_BYTES: Final = 8 * 1024 * 1024

# The library logs each connection twice; we say once what matters.
quiet = logging.getLogger("websockets.quiet")
quiet.setLevel(logging.CRITICAL)


class _PassPings:
    """A ping is the other end's to answer: an answer from here would hide that it is gone."""

    events: list[object]

    def recv_frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.PING:
            self.events.append(frame)
        else:
            super().recv_frame(frame)  # type: ignore[misc]


class ChargerSide(_PassPings, ServerProtocol):  # type: ignore[misc]
    """We are the server, and choose what SteVe chose."""

    chosen: Subprotocol | None = None

    def select_subprotocol(self, subprotocols: Sequence[Subprotocol]) -> Subprotocol | None:  # noqa: ARG002
        return self.chosen


class SteveSide(_PassPings, ClientProtocol):  # type: ignore[misc]
    """We are the client."""
