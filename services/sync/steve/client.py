"""SteVe's REST, asked by nobody but this service (facts: SteVe)."""

import re
from collections.abc import Sequence
from typing import Any, Final, Self

import httpx
from pydantic import TypeAdapter

from services.sync.steve.models import OperationResult, Tag, TagForm, Transaction, TransactionDetails
from services.sync.upstreams.breaker import Breaker
from services.sync.upstreams.errors import RefusedError
from services.sync.upstreams.http import Caller, Watch
from shared.web.client import http_client

API: Final = "/steve/api/v1"
# SteVe waits for a charger's answer up to 30 s.
OPERATION_TIMEOUT_S: Final = 35.0
# Seven digits and a comma each: well below what Tomcat takes as a request line.
MOST_PKS: Final = 500

_FIRST_ID: Final = re.compile(rb'"id"\s*:\s*(\d+)')

_TAG, _TAGS = TypeAdapter(Tag), TypeAdapter(list[Tag])
_TRANSACTIONS = TypeAdapter(list[Transaction])
_DETAILS, _RESULT = TypeAdapter(TransactionDetails), TypeAdapter(OperationResult)


class SteveVersion(tuple[int, int]):
    """What this SteVe can do depends on its release."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """:raises ValueError: for what is not like `3.12`."""
        match = re.fullmatch(r"(\d+)\.(\d+)(\..*)?", text)
        if match is None:
            raise ValueError(f"{text!r} is no SteVe release; write it like 3.12")
        return cls((int(match[1]), int(match[2])))

    @property
    def takes_lists(self) -> bool:
        return self >= (3, 11)

    @property
    def has_operations(self) -> bool:
        return self >= (3, 11)

    @property
    def has_details(self) -> bool:
        return self >= (3, 12)


class SteveClient:
    """All calls raise `UpstreamError`s. `urgent`: a person waits, so ask even while the circuit is open."""

    def __init__(
        self,
        base_url: str,
        *,
        user: str,
        password: str,
        api_key: str,
        version: SteveVersion,
        breaker: Breaker,
        watch: Watch,
        timeout_s: float = 10.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        # Both credentials go out unasked: a call without them may be answered by a login page (facts: authentication).
        client = http_client(
            base_url.rstrip("/").removesuffix(API).removesuffix("/steve"),
            headers={"STEVE-API-KEY": api_key} if api_key else None,
            auth=(user, password) if user else None,
            timeout_s=timeout_s,
            transport=transport,
        )
        self._caller = Caller("steve", client, breaker, watch)
        self.version = version

    async def close(self) -> None:
        await self._caller.close()

    @property
    def requests(self) -> int:
        """How many requests were sent so far."""
        return self._caller.requests

    async def tags(self) -> list[Tag]:
        """All tags; SteVe has no pages."""
        return await self._caller.call("GET", f"{API}/ocppTags", _TAGS)

    async def find_tag(self, id_tag: str, *, urgent: bool = False) -> Tag | None:
        """The tag of this name in any spelling."""
        found = await self._caller.call("GET", f"{API}/ocppTags", _TAGS, query={"idTag": id_tag}, urgent=urgent)
        return found[0] if found else None

    async def create_tag(self, form: TagForm) -> Tag:
        """:raises RefusedError: 422 when it exists already, or when its parent does not."""
        return await self._caller.call("POST", f"{API}/ocppTags", _TAG, body=_body(form), urgent=True)

    async def replace_tag(self, pk: int, form: TagForm) -> Tag:
        """Write every field (facts 4). :raises RefusedError: 400 for an expiry that has passed."""
        return await self._caller.call("PUT", f"{API}/ocppTags/{pk}", _TAG, body=_body(form), urgent=True)

    async def transactions(self, pks: Sequence[int], *, urgent: bool = False) -> list[Transaction]:
        """Those that exist, ascending. At most MOST_PKS; a SteVe before 3.11 is asked one by one."""
        if not pks:
            return []
        at_once = len(pks) if self.version.takes_lists else 1
        found: list[Transaction] = []
        for first in range(0, len(pks), at_once):
            query = {"transactionPk": ",".join(str(pk) for pk in pks[first : first + at_once])}
            some = await self._caller.call("GET", f"{API}/transactions", _TRANSACTIONS, query=query, urgent=urgent)
            found += some
        wanted = set(pks)
        return sorted((one for one in found if one.pk in wanted), key=lambda one: one.pk)

    async def highest_pk(self) -> int:
        """The highest transaction id there is, 0 for none. Costly: SteVe lists them all to say so."""
        # Newest first, so the beginning of the list is enough; a hundred thousand of them need not be held to read one.
        start = await self._caller.first_bytes(f"{API}/transactions", 4096, timeout_s=120.0)
        first = _FIRST_ID.search(start)
        return int(first[1]) if first else 0

    async def active_transactions(self) -> list[Transaction]:
        query = {"type": "ACTIVE"}
        return await self._caller.call("GET", f"{API}/transactions", _TRANSACTIONS, query=query)

    async def details(self, pk: int) -> TransactionDetails | None:
        """A transaction with its energy readings; None where there is none, or SteVe is older than 3.12."""
        if not self.version.has_details:
            return None
        try:
            return await self._caller.call(
                "GET", f"{API}/transactions/{pk}", _DETAILS, query={"energyValuesOnly": "true"}
            )
        except RefusedError as error:
            if error.status == 404:
                return None
            raise

    async def operate(self, name: str, parameters: dict[str, Any], *, quoting: bool = True) -> OperationResult:
        """Have SteVe call chargers. Never repeated by anybody: a start that was carried out stays carried out.

        :param quoting: False: among the parameters is a secret, which SteVe's words may quote.
        :raises RefusedError: 400 when the charger is not connected, 404 for an operation it does not know.
        """
        body = _JSON.dump_json(parameters)
        path = f"{API}/operations/{name}"
        return await self._caller.call(
            "POST", path, _RESULT, body=body, urgent=True, timeout_s=OPERATION_TIMEOUT_S, quoting=quoting
        )

    async def probe(self) -> None:
        """The cheapest question that needs the credentials."""
        await self.find_tag("EXPRESSYNC-PROBE")


_JSON = TypeAdapter(dict[str, Any])


def _body(form: TagForm) -> bytes:
    return form.model_dump_json(by_alias=True).encode()
