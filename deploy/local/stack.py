"""The whole stack on one machine: PostgreSQL, RabbitMQ, the schemas and the four services."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from deploy.local.environment import (
    AMQP,
    DATABASE_ADMIN,
    Environment,
    database_variable,
    owners,
    reached_at,
    role_url,
)
from deploy.local.home import SERVICES, Home
from deploy.local.infra.broker import provide_broker
from deploy.local.infra.errors import InfraError
from deploy.local.infra.external import external_postgres
from deploy.local.infra.folder import LOOPBACK, free_port, port_is_free
from deploy.local.infra.postgres import Postgres
from deploy.local.infra.server import Server
from deploy.local.processes import Program, stop_all
from deploy.local.schemas import bring_current
from deploy.local.servers import Kept

Say = Callable[[str], None]

READY_TIMEOUT_S: Final = 60.0
DEFAULT_PORTS: Final = {"admin_api": 8090, "preauth": 8091, "sync": 8092}
DEFAULT_OPS_PORTS: Final = {"admin_api": 8190, "preauth": 8191, "sync": 8192, "audit": 8193}


class Stack:
    """Starts, watches and stops everything. All verbs block."""

    def __init__(self, home: Home, given: dict[str, str], say: Say, *, any_port: bool = False) -> None:
        self.home, self._given, self._say, self._any_port = home, dict(given), say, any_port
        self.programs: list[Program] = []
        admin_url = given.get(DATABASE_ADMIN)
        self.postgres: Server = external_postgres(admin_url) if admin_url else Postgres(home.folder / "postgres")
        self.broker: Server = provide_broker(home.folder / "rabbitmq", home.packages, url=given.get(AMQP))
        self._servers = (Kept("PostgreSQL", self.postgres), Kept("RabbitMQ", self.broker))
        self._ports: dict[str, str] = {}
        self.environment = Environment(given, {})

    def base_environment(self) -> dict[str, str]:
        """What any program of ours needs, without a service's settings."""
        return Environment({}, {}).of("")

    def choose_ports(self) -> None:
        """Fix the services' ports before anything starts, for those who must know them by then."""
        for service in SERVICES:
            prefix = f"EXPRESSYNC_{service.upper()}"
            for name, defaults in (("PORT", DEFAULT_PORTS), ("OPS_PORT", DEFAULT_OPS_PORTS)):
                default = defaults.get(service)
                given = self._given.get(f"{prefix}_{name}")
                if given == "0":
                    # Any free one is wanted; it is chosen here, since others must know it.
                    del self._given[f"{prefix}_{name}"]
                    self._ports[f"{prefix}_{name}"] = str(free_port())
                elif default is not None and given is None:
                    free = not self._any_port or port_is_free(default)
                    self._ports[f"{prefix}_{name}"] = str(default if free else free_port())
        self.environment = Environment(self._given, dict(self._ports))

    def start(self, extra: dict[str, str] | None = None, *, told: threading.Event | None = None) -> None:
        """Bring up database and broker side by side, migrate, start the services; or only as far as it is until `told`.

        `extra` are settings made up by the caller (the demo's simulators).

        :raises InfraError: when something cannot be provided.
        """
        if not self._ports:
            self.choose_ports()
        told = told or threading.Event()
        try:
            self._start(extra or {}, told)
        except InfraError:
            # Who was told to stop has not failed.
            if not told.is_set():
                raise

    def _start(self, extra: dict[str, str], told: threading.Event) -> None:
        with ThreadPoolExecutor(max_workers=1) as pool:
            broker = pool.submit(self.broker.start, told)
            self.postgres.start(told)
            self._say(f"PostgreSQL is up ({self.postgres.source}).")
            bring_current(self.postgres.url, owners(self.home, self._given))
            self._say("The schemas are current.")
            # The services need not wait for the broker: they look for it until it is there.
            self.environment = Environment(self._given, {**self._made(), **extra})
            for service in SERVICES:
                if told.is_set():
                    return
                self.start_service(service)
            self.home.note_console(f"http://{self.host('admin_api')}:{self.port('admin_api')}")
            broker.result()
            self._say(f"RabbitMQ is up ({self.broker.source}).")

    def _made(self) -> dict[str, str]:
        spool = str(self.home.folder / "preauth" / "spool")
        made = {**self._ports, AMQP: self.broker.url, "EXPRESSYNC_PREAUTH_SPOOL_DIR": spool}
        for owner in owners(self.home, self._given):
            # An address that was given comes first, here as everywhere.
            made[database_variable(owner.service)] = role_url(self.postgres.url, owner)
        return made

    def port(self, service: str, kind: str = "PORT") -> int:
        value = self.environment.variable(f"EXPRESSYNC_{service.upper()}_{kind}")
        return int(value or 0)

    def host(self, service: str, name: str = "HOST") -> str:
        """Where this machine reaches the service."""
        return reached_at(self.environment.variable(f"EXPRESSYNC_{service.upper()}_{name}") or LOOPBACK)

    def start_service(self, service: str) -> Program:
        program = Program(
            name=service,
            module=f"services.{service}",
            environment=self.environment.of(service),
            log=self.home.logs / f"{service}.log",
            ready_url=f"http://{self.host(service, 'OPS_HOST')}:{self.port(service, 'OPS_PORT')}/readyz",
        )
        program.start()
        self.programs.append(program)
        return program

    def not_ready(self) -> dict[str, dict[str, str]]:
        """What each service still lacks, by service and check."""
        found = {}
        for program in self.programs:
            lacks = {check: why for check, why in program.readiness().items() if why != "ok"}
            if lacks:
                found[program.name] = lacks
        return found

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S, *, stop: threading.Event | None = None) -> None:
        """Wait until every service says that it is ready, or until `stop`.

        :raises InfraError: naming who is not, and why.
        """
        deadline = time.monotonic() + timeout_s
        while (lacking := self.not_ready()) and not (stop and stop.is_set()):
            self.keep_up()
            if time.monotonic() > deadline:
                who = "; ".join(f"{name}: {', '.join(why.values())}" for name, why in lacking.items())
                raise InfraError("The services did not become ready.", who, f"Read the logs in {self.home.logs}.")
            time.sleep(0.1)

    def keep_up(self) -> None:
        """Restart what fell; call it about once a second."""
        kept: list[Kept | Program] = [*self._servers, *self.programs]
        for one in kept:
            if said := one.keep_up():
                self._say(said)

    def stop(self) -> None:
        """Stop services, then the broker and the database that are ours."""
        stop_all(self.programs)
        self.programs.clear()
        with ThreadPoolExecutor(max_workers=2) as pool:
            for stopping in [pool.submit(server.stop) for server in self._servers]:
                stopping.result()
