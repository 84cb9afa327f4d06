"""What tests do with the running service."""

from datetime import datetime
from typing import Any, Protocol
from uuid import uuid4

import httpx
import psycopg

from services.admin_api.access.operators import Operators
from shared.contracts.event import Envelope, open_envelope
from shared.runtime.service import Service
from tests.databases import TestDatabase
from tests.integration.services.admin_api.stubs import Owners

OWN_PASSWORD = "a long enough password"
TABLES = ("session", "operator", "api_token", "sign_in_guard", "request_result")


class MovableClock(Protocol):
    def __call__(self) -> datetime: ...
    def pass_by(self, **how_long: float) -> None: ...
    def reset(self) -> None: ...


class House:
    """The running service, its database and its stubs."""

    def __init__(
        self,
        *,
        url: str,
        service: Service,
        owners: Owners,
        database: TestDatabase,
        clock: MovableClock,
        operators: Operators,
    ) -> None:
        self.operators = operators
        self.url, self.service, self.owners, self.database, self.clock = url, service, owners, database, clock
        self.one_time_password = ""
        self._clients: list[httpx.AsyncClient] = []

    def client(self, token: str | None = None, **headers: str) -> httpx.AsyncClient:
        """A client of the API, with a token or without."""
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        client = httpx.AsyncClient(base_url=self.url, headers=headers, trust_env=False, timeout=10)
        self._clients.append(client)
        return client

    async def close_clients(self) -> None:
        for client in self._clients:
            await client.aclose()
        self._clients.clear()

    async def empty(self) -> None:
        """Events that were told before stay in the outbox until they are relayed; tests look for their own."""
        async with await psycopg.AsyncConnection.connect(self.database.admin_url, autocommit=True) as connection:
            await connection.execute("SET search_path = admin_api")
            for table in TABLES:
                await connection.execute(f"DELETE FROM {table}".encode())

    async def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        async with await psycopg.AsyncConnection.connect(self.database.admin_url, autocommit=True) as connection:
            await connection.execute("SET search_path = admin_api")
            cursor = await connection.execute(statement.encode(), values)
            return await cursor.fetchall() if cursor.description else []

    async def sign_in(self, name: str, password: str, *, new_password: str | None = None) -> httpx.AsyncClient:
        """A client with a session of the command line."""
        body = {"name": name, "password": password, "new_password": new_password}
        answer = await self.client().post("/api/v1/session", json=body)
        assert answer.status_code == 201, answer.text
        return self.client(answer.json()["token"])

    async def as_admin(self) -> httpx.AsyncClient:
        return await self.sign_in("admin", OWN_PASSWORD)

    async def as_role(self, role: str) -> httpx.AsyncClient:
        """A client with an API token of that role."""
        admin = await self.as_admin()
        made = await change(admin, "/tokens", {"name": f"{role} {uuid4().hex[:6]}", "role": role})
        return self.client(made["token"])


async def change(client: httpx.AsyncClient, path: str, body: dict[str, Any] | None = None, status: int = 201) -> Any:  # noqa: ANN401
    """POST under a fresh key; returns the JSON."""
    answer = await client.post(f"/api/v1{path}", json=body, headers=key())
    assert answer.status_code == status, answer.text
    return answer.json()


def key(value: str | None = None) -> dict[str, str]:
    return {"Idempotency-Key": value or uuid4().hex}


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem detail, after a look at whether it is one."""
    assert answer.status_code == status, f"{answer.request.method} {answer.request.url}: {answer.text}"
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert (body["status"], body["code"]) == (status, code), body
    assert body["type"] == f"urn:expressync:problem:{code}"
    assert body["title"]
    assert body["detail"]
    return body


class EventLog:
    """What was told on the exchange since the test began."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    @property
    def envelopes(self) -> list[Envelope]:
        return [open_envelope(body) for body in self.bodies]

    def of(self, type_: str) -> list[Envelope]:
        return [envelope for envelope in self.envelopes if envelope.type == type_]
