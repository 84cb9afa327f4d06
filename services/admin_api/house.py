"""What the API's and the console's routes are given: wired once, in `main.py`."""

from dataclasses import dataclass

from starlette.requests import HTTPConnection

from services.admin_api.access.authenticate import Authenticate
from services.admin_api.access.browser import Cookies, Origins
from services.admin_api.access.caller import Caller
from services.admin_api.access.operators import Operators
from services.admin_api.access.sign_in import SignIn
from services.admin_api.access.tokens import Tokens
from services.admin_api.asking import Ask
from services.admin_api.settings import AdminApiSettings
from services.admin_api.upstreams import UpstreamWatch
from shared.bus.outbox import Outbox
from shared.bus.requests import Requester
from shared.database.engine import Database
from shared.runtime.clock import Clock, NewId


@dataclass(frozen=True, slots=True)
class House:
    settings: AdminApiSettings
    database: Database
    outbox: Outbox
    requester: Requester
    clock: Clock
    new_id: NewId
    authenticate: Authenticate
    sign_in: SignIn
    operators: Operators
    tokens: Tokens
    cookies: Cookies
    origins: Origins
    upstreams: UpstreamWatch

    def ask(self, caller: Caller) -> Ask:
        """Questions on behalf of this caller, as one chain."""
        return Ask(
            requester=self.requester,
            caller=caller,
            correlation_id=self.new_id(),
            clock=self.clock,
            read_s=self.settings.ask_deadline_s,
            change_s=self.settings.change_deadline_s,
        )


def of(request: HTTPConnection) -> House:
    house: House = request.app.state.house
    return house


def source(request: HTTPConnection) -> str:
    """The address a request comes from; behind a proxy on this machine, the one that proxy names."""
    return request.client.host if request.client else "unknown"
