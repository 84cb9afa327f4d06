"""Asks SteVe with each scheme of credentials. Reads only."""

import asyncio
from dataclasses import dataclass
from typing import Any, Final

import httpx
from pydantic import TypeAdapter

from deploy.local.doctor.result import Result
from deploy.local.doctor.steve import rules
from deploy.local.doctor.steve.rules import Abilities, Found, Scheme
from deploy.local.doctor.target import Target
from deploy.local.doctor.upstream import TIMEOUT_S, Heard, breaker, heard, ignore, unsendable
from services.sync.steve.client import API, SteveClient, SteveVersion
from services.sync.steve.models import Transaction
from services.sync.upstreams.errors import UpstreamError
from services.sync.upstreams.http import Caller
from shared.web.client import UnsendableHeaderError, http_client

# No tag and no transaction has it: the largest primary key there can be (a MySQL int).
NOBODY: Final = 2_147_483_647
_TRANSACTIONS: Final = TypeAdapter(list[Transaction])
_ANYTHING: Final[TypeAdapter[Any]] = TypeAdapter(Any)


@dataclass(frozen=True, slots=True)
class Access:
    """SteVe's address and the credentials that are set for it."""

    url: str
    user: str
    password: str
    api_key: str
    version: SteveVersion

    @classmethod
    def of(cls, target: Target) -> "Access":
        def setting(name: str) -> str:
            return target.setting("sync", f"steve_{name}")

        try:
            version = SteveVersion.parse(setting("version"))
        except ValueError:
            # Told by the check of the settings.
            version = rules.DETAILS
        return cls(setting("url"), setting("user"), setting("password"), setting("api_key"), version)

    @property
    def has(self) -> frozenset[Scheme]:
        set_for: dict[Scheme, str] = {"basic": self.user, "key": self.api_key}
        return frozenset(scheme for scheme, value in set_for.items() if value)

    def root(self) -> str:
        return self.url.rstrip("/").removesuffix(API).removesuffix("/steve")

    def http(self) -> httpx.AsyncClient:
        """A client with the credentials as sync sends them."""
        return http_client(
            self.root(),
            headers={"STEVE-API-KEY": self.api_key} if self.api_key else None,
            auth=(self.user, self.password) if self.user else None,
            timeout_s=TIMEOUT_S,
        )


async def check(target: Target) -> list[Result]:
    access = Access.of(target)
    if not access.url.startswith(("http://", "https://")):
        return rules.no_address()
    try:
        return rules.judge(await ask(access))
    except UnsendableHeaderError:
        return unsendable("steve", rules.CHECKS, rules.KEY)
    except (httpx.InvalidURL, ValueError):
        return rules.no_address()


async def ask(access: Access) -> Found:
    """What SteVe says; nothing is raised for what it does not."""
    said = await _probe(access, access.user, access.password, access.api_key)
    if not said.reachable:
        return Found(said, access.has, version=access.version)
    trials: dict[Scheme, tuple[str, str, str]] = {}
    borrowed: set[Scheme] = set()
    if access.user:
        trials["basic"] = (access.user, access.password or access.api_key, "")
    if access.api_key or access.password:
        trials["key"] = ("", "", access.api_key or access.password)
    if access.user and not access.password and access.api_key:
        borrowed.add("basic")
    if not access.api_key:
        borrowed.add("key")
    if len(access.has) == 1:
        # The call as configured was that scheme alone.
        trials = {} if said.well else {scheme: trial for scheme, trial in trials.items() if scheme not in access.has}
    answers = await asyncio.gather(*(_probe(access, *trial) for trial in trials.values()))
    schemes = dict.fromkeys(access.has, said) | dict(zip(trials, answers, strict=True))
    abilities = await _abilities(access) if said.well else Abilities()
    return Found(said, access.has, schemes, frozenset(borrowed), abilities, access.version)


async def _probe(access: Access, user: str, password: str, api_key: str) -> Heard:
    client = SteveClient(
        access.url,
        user=user,
        password=password,
        api_key=api_key,
        version=access.version,
        breaker=breaker(),
        watch=ignore,
        timeout_s=TIMEOUT_S,
    )
    try:
        return await heard(client.probe)
    finally:
        await client.close()


async def _abilities(access: Access) -> Abilities:
    async with access.http() as client:
        caller = Caller("steve", client, breaker(), ignore)
        operations, newest = await asyncio.gather(_has_operations(client), _newest(caller))
        if newest is None:
            return Abilities(operations=operations)
        lists, details = await asyncio.gather(_takes_lists(caller, newest), _has_details(client, newest))
        return Abilities(lists, operations, details)


async def _has_operations(client: httpx.AsyncClient) -> bool | None:
    """Without starting one: OPTIONS asks what can be done at an address, and does nothing (RFC 9110, 9.3.7)."""
    try:
        answer = await client.options(f"{API}/operations/RemoteStartTransaction")
    except httpx.HTTPError:
        return None
    if answer.status_code == 404:
        return False
    return True if answer.status_code == 405 or "POST" in answer.headers.get("Allow", "") else None


async def _newest(caller: Caller) -> int | None:
    """A transaction of the last days, or one that is open; not the whole list, which has no pages."""
    for query in ({"periodType": "LAST_10"}, {"type": "ACTIVE"}):
        try:
            found = await caller.call("GET", f"{API}/transactions", _TRANSACTIONS, query=query, urgent=True)
        except UpstreamError:
            continue
        if found:
            return max(one.pk for one in found)
    return None


async def _takes_lists(caller: Caller, pk: int) -> bool | None:
    """Before 3.11 only the first of several is looked at, or several are refused."""
    query = {"transactionPk": f"{NOBODY},{pk}"}
    try:
        found = await caller.call("GET", f"{API}/transactions", _TRANSACTIONS, query=query, urgent=True)
    except UpstreamError as error:
        return False if error.reason == "refused" else None
    return any(one.pk == pk for one in found)


async def _has_details(client: httpx.AsyncClient, pk: int) -> bool | None:
    try:
        answer = await client.get(f"{API}/transactions/{pk}", params={"energyValuesOnly": "true"})
    except httpx.HTTPError:
        return None
    if answer.status_code == 200:
        return True
    return False if answer.status_code in {404, 405} else None
