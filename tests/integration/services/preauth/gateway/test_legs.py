"""One socket of a tunnel, with the system's own sockets below it."""

import asyncio
import socket

from websockets.http11 import Request, Response
from websockets.protocol import State

from services.preauth.gateway.legs import Leg, Memory
from services.preauth.gateway.pacer import Pacer
from services.preauth.gateway.sides import ChargerSide, quiet
from tests.integration.services.preauth.gateway.support import until


class Owner:
    """Counts how often it heard that the socket is gone."""

    lost = 0

    def on_connected(self, leg: Leg) -> None: ...

    def on_handshake(self, leg: Leg, message: Request | Response) -> None: ...

    def on_text(self, leg: Leg, text: bytes | bytearray) -> None: ...

    def on_control(self, leg: Leg, opcode: object, data: bytes) -> None: ...

    def on_batch(self, leg: Leg, frames: int) -> None: ...

    def on_closed(self, leg: Leg, code: int, reason: str) -> None: ...

    def on_full(self, leg: Leg, *, full: bool) -> None: ...

    def on_lost(self, leg: Leg) -> None:  # noqa: ARG002
        self.lost += 1


async def test_a_socket_that_is_gone_may_be_ended_again() -> None:
    """Hung up with bytes to send, and gone once the peer has read them: whoever cuts it later does no harm."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    owner, loop = Owner(), asyncio.get_running_loop()
    leg = Leg(ChargerSide(state=State.OPEN, logger=quiet), owner, memory=Memory(), pacer=Pacer())
    await loop.create_connection(lambda: leg, sock=ours)
    leg.send_text(b"x" * 4_000_000)
    leg.flush()
    assert leg.unsent > 0
    leg.hang_up()
    while await loop.sock_recv(theirs, 1_000_000):
        pass
    await until(lambda: owner.lost == 1)
    leg.abort()
    leg.hang_up()
    leg.close(1000, "")
    leg.cut_after(0)
    await asyncio.sleep(0.01)
    assert (owner.lost, leg.unsent) == (1, 0)
    theirs.close()
