"""The simulated SteVe as one object: its database, its REST, its OCPP endpoint.

async with run_steve(SteveSettings(password="secret")) as steve:
    steve.state.add_charger("CP-1")
    steve.state.add_tag("04A1B2C3")
    ... steve.rest_url, steve.ocpp_url, steve.faults.set("slow", 500) ...
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from deploy.demo.steve.central_system import CentralSystem
from deploy.demo.steve.control import Control
from deploy.demo.steve.faults import Fault, Faults
from deploy.demo.steve.handshake import OCPP_PATH
from deploy.demo.steve.hook import PreAuthorizeHook
from deploy.demo.steve.listen import HttpListener
from deploy.demo.steve.operations_api import OperationsApi
from deploy.demo.steve.password_check import PasswordCheck
from deploy.demo.steve.rest import build_app
from deploy.demo.steve.settings import SteveSettings
from deploy.demo.steve.state import SteveState
from deploy.demo.steve.stations import Stations
from deploy.demo.steve.store import FileStore, MemoryStore
from deploy.demo.steve.tags_api import TagsApi
from deploy.demo.steve.transactions_api import TransactionsApi


class SteveSimulator:
    """`state`, `faults`, `hook` and `stations` may be used directly while it runs."""

    def __init__(self, settings: SteveSettings | None = None, faults: list[Fault] | None = None) -> None:
        self.settings = settings or SteveSettings()
        store = MemoryStore() if self.settings.state_file is None else FileStore(self.settings.state_file)
        self.state = SteveState(store, self.settings.clock)
        self.faults = Faults(faults)
        self.hook = None if self.settings.hook is None else PreAuthorizeHook(self.settings.hook)
        central_system = CentralSystem(self.settings, self.state, self.hook)
        password_check = PasswordCheck(self.settings.auth_delay_ms, self.settings.auth_cores)
        self.stations = Stations(self.settings, self.state, self.faults, central_system, password_check)
        version = self.settings.version
        api_routes = [
            *TagsApi(self.state, version).routes(),
            *TransactionsApi(self.state, version).routes(),
            *OperationsApi(self.state, self.stations, self.settings).routes(),
        ]
        control = Control(
            self.state, self.faults, self.stations.connected, self._hook_outcomes, self.stations.disconnect
        )
        app = build_app(
            self.settings,
            self.faults,
            password_check,
            self.state.requests,
            api_routes=api_routes,
            control_routes=control.routes(),
        )
        self._rest = HttpListener(app, self.settings.host, self.settings.rest_port)

    @property
    def rest_url(self) -> str:
        """Where REST listens, without a path: "http://127.0.0.1:PORT"."""
        return f"http://{self.settings.host}:{self._rest.port}"

    @property
    def ocpp_url(self) -> str:
        """What a charger's id is appended to, after a slash."""
        return f"ws://{self.settings.host}:{self.stations.port}{OCPP_PATH}"

    async def start(self) -> None:
        await self.start_rest()
        await self.start_ocpp()

    async def stop(self) -> None:
        await self.stop_rest()
        await self.stop_ocpp()
        if self.hook is not None:
            await self.hook.close()
        self.state.close()

    async def start_rest(self) -> None:
        """Listen again, on the port of the first time."""
        await self._rest.start()

    async def stop_rest(self) -> None:
        """Connections to REST are refused until `start_rest`."""
        await self._rest.stop()

    async def start_ocpp(self) -> None:
        await self.stations.start()

    async def stop_ocpp(self) -> None:
        await self.stations.stop()

    def _hook_outcomes(self) -> dict[str, int]:
        return {} if self.hook is None else dict(self.hook.outcomes)


@asynccontextmanager
async def run_steve(
    settings: SteveSettings | None = None, faults: list[Fault] | None = None
) -> AsyncIterator[SteveSimulator]:
    """Start a SteVe on free ports, and stop it at the end, whatever happens."""
    steve = SteveSimulator(settings, faults)
    try:
        await steve.start()
        yield steve
    finally:
        await steve.stop()
