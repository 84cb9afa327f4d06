"""The operators come in here. The composition root: all wiring of the service is here."""

from datetime import timedelta

from services.admin_api.access.authenticate import Authenticate
from services.admin_api.access.browser import Cookies, Origins
from services.admin_api.access.operators import Operators
from services.admin_api.access.passwords import Passwords
from services.admin_api.access.rules import Lifetime
from services.admin_api.access.sign_in import SignIn
from services.admin_api.access.tokens import Tokens
from services.admin_api.api.app import create_api, openapi_document
from services.admin_api.console.app import create_console
from services.admin_api.front import Front
from services.admin_api.house import House
from services.admin_api.settings import AdminApiSettings
from services.admin_api.tables import metadata
from services.admin_api.upstreams import ASK_EVERY_S, UpstreamWatch
from shared.bus.topology import Topology
from shared.runtime.clock import Clock, NewId, utc_now, uuid7
from shared.runtime.service import Service, assemble, run
from shared.runtime.supervisor import Every
from shared.web.server import HttpServer, bind
from shared.web.tracing import Traced

__all__ = ["build", "main", "openapi_document"]

FORGET_EVERY_S = 3600.0


def build(
    settings: AdminApiSettings,
    *,
    clock: Clock = utc_now,
    new_id: NewId = uuid7,
    passwords: Passwords | None = None,
    topology: Topology | None = None,
) -> Service:
    """The wired service. `service.parts` holds an `HttpServer` named "http", whose `port` is the one in use."""
    service = assemble("admin_api", settings, metadata, clock=clock, new_id=new_id, topology=topology, asks=True)
    house = _house(service, settings, passwords or Passwords())
    front = Front(create_api(house), create_console(house), secure=settings.secure)
    service.parts += [
        HttpServer(
            "http",
            Traced(front),
            bind(settings.host, settings.port, setting="EXPRESSYNC_ADMIN_API_PORT"),
            local_proxy=True,
        ),
        Every("upstreams.ask", ASK_EVERY_S, house.upstreams.refresh),
        Every("access.forget", FORGET_EVERY_S, house.sign_in.forget),
    ]
    return service


def _house(service: Service, settings: AdminApiSettings, passwords: Passwords) -> House:
    database, outbox, clock, new_id = service.database, service.outbox, service.clock, service.new_id
    lifetime = Lifetime(
        idle=timedelta(minutes=settings.session_idle_minutes),
        browser=timedelta(hours=settings.session_hours),
        cli=timedelta(days=settings.cli_session_days),
    )
    one_time = timedelta(hours=settings.one_time_password_hours)
    return House(
        settings=settings,
        database=database,
        outbox=outbox,
        requester=service.requester,
        clock=clock,
        new_id=new_id,
        authenticate=Authenticate(database, lifetime, clock=clock),
        sign_in=SignIn(database, outbox, passwords, lifetime, clock=clock, new_id=new_id),
        operators=Operators(database, outbox, passwords, one_time=one_time, clock=clock),
        tokens=Tokens(database, outbox, clock=clock, new_id=new_id),
        cookies=Cookies(secure=settings.secure),
        origins=Origins(str(settings.public_url) if settings.public_url else None),
        upstreams=UpstreamWatch(service.requester, clock),
    )


def main() -> None:
    run("admin_api", AdminApiSettings, build)
