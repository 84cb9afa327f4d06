"""Who is asking, as far as they have proven it."""

from dataclasses import dataclass
from typing import Literal

from shared.contracts.events.admin_api import Role
from shared.contracts.identity import Actor


@dataclass(frozen=True, slots=True)
class Caller:
    """An operator with a session, or a program with an API token.

    `csrf_token` is what a form of this browser must send along; None where nothing is sent by itself (bearer).
    `must_change_password`: signed in with a one-time password, and good for nothing but choosing one's own.
    """

    kind: Literal["operator", "api_token"]
    name: str
    role: Role
    session_hash: bytes | None = None
    csrf_token: str | None = None
    must_change_password: bool = False

    @property
    def actor(self) -> Actor:
        return Actor(kind=self.kind, id=self.name)
