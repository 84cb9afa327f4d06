"""Webhooks as Lago sends them: signed, three tries, then silence (fact 9; facts: Webhooks)."""

import asyncio
import base64
import hashlib
import hmac
import random
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc import jwt
from joserfc.jwk import RSAKey

from deploy.demo.lago import views
from deploy.demo.lago.model import Customer, Event, Invoice, Subscription, Wallet, new_id
from deploy.demo.lago.settings import WebhookAlgorithm
from deploy.demo.lago.state import LagoState, Thing

TRIES: Final = 3
TIMEOUT_S: Final = 30.0  # seconds
SUCCESS: Final = frozenset({200, 201, 202, 204})
_PEM_LINE: Final = 60  # characters, as Ruby's Base64.encode64 breaks them


def new_signing_key() -> str:
    """A fresh RSA key as PKCS #8 PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


class Signer:
    """Signs bodies. The RSA key is made when it is first needed, or given as PEM before that."""

    def __init__(self, hmac_key: str) -> None:
        self._hmac_key = hmac_key.encode()
        self.pem = ""
        self.issuer = ""  # Lago's API URL

    def sign(self, body: bytes, algorithm: WebhookAlgorithm) -> str:
        """`hmac`: base64 of HMAC-SHA256 over the body. `jwt`: RS256, the body as the string `data`, no expiry."""
        if algorithm == "hmac":
            return base64.b64encode(hmac.new(self._hmac_key, body, hashlib.sha256).digest()).decode()
        claims = {"data": body.decode(), "iss": self.issuer}
        return jwt.encode({"alg": "RS256"}, claims, RSAKey.import_key(self._private_pem()))

    def public_key(self) -> str:
        """The PEM of the public key in base64 with a line break every 60 characters."""
        private = serialization.load_pem_private_key(self._private_pem().encode(), password=None)
        pem = private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        text = base64.b64encode(pem).decode()
        return "".join(f"{text[at : at + _PEM_LINE]}\n" for at in range(0, len(text), _PEM_LINE))

    def _private_pem(self) -> str:
        self.pem = self.pem or new_signing_key()
        return self.pem


@dataclass(slots=True)
class Delivery:
    """One webhook and how its tries went."""

    webhook_type: str
    body: bytes
    unique_key: str = field(default_factory=new_id)  # the same on every try
    statuses: list[int] = field(default_factory=list)  # 0: no answer
    state: str = "pending"  # then succeeded or failed


class Webhooks:
    """Sends what happens to the configured address. Nothing waits for it."""

    def __init__(self, state: LagoState) -> None:
        self._state = state
        self._settings = state.settings
        self.signer = Signer(self._settings.webhook_hmac_key)
        self.url = self._settings.webhook_url
        self.algorithm: WebhookAlgorithm = self._settings.webhook_algorithm
        self.deliveries: list[Delivery] = []
        self._reported = 0  # seq of the last event in an `events.errors`
        self._running: set[asyncio.Task[None]] = set()
        self._client: httpx.AsyncClient | None = None
        state.notify = self.notify

    def notify(self, webhook_type: str, thing: Thing) -> None:
        """Send one webhook about a thing; without an address nothing happens."""
        for kind, name in ((Subscription, "subscription"), (Customer, "customer"), (Invoice, "invoice")):
            if isinstance(thing, kind):
                self.send(webhook_type, name, self._view(thing))
        if isinstance(thing, Wallet):
            self.send(webhook_type, "wallet", self._view(thing))

    def report_event_errors(self) -> None:
        """What Lago does every hour: name what arrived since the last report and cannot be billed."""
        fresh = [event for event in self._state.events if event.seq > self._reported]
        self._reported = max((event.seq for event in fresh), default=self._reported)
        errors = self._event_errors(fresh)
        if any(errors.values()):
            self.send("events.errors", "events_errors", errors)

    def send(self, webhook_type: str, object_type: str, content: dict[str, Any]) -> Delivery | None:
        """Send any content; the delivery tells how it goes. None without an address."""
        if self.url is None:
            return None
        payload = {
            "webhook_type": webhook_type,
            "object_type": object_type,
            "organization_id": self._state.organization_id,
            object_type: content,
        }
        delivery = Delivery(webhook_type, msgspec.json.encode(payload))
        self.deliveries.append(delivery)
        self._start(delivery, self.url)
        return delivery

    def redeliver(self, delivery: Delivery) -> None:
        """The same webhook once more, under the same unique key, as an operator does from Lago's console."""
        if self.url is not None:
            self._start(delivery, self.url)

    def _start(self, delivery: Delivery, url: str) -> None:
        task = asyncio.get_running_loop().create_task(self._deliver(delivery, url))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def close(self) -> None:
        """Give up what is not delivered yet."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()

    async def _deliver(self, delivery: Delivery, url: str) -> None:
        headers = {
            "Content-Type": "application/json",
            "X-Lago-Signature": self.signer.sign(delivery.body, self.algorithm),
            "X-Lago-Signature-Algorithm": self.algorithm,
            "X-Lago-Unique-Key": delivery.unique_key,
        }
        for attempt in range(1, TRIES + 1):
            status = await self._post(url, delivery.body, headers)
            delivery.statuses.append(status)
            if status in SUCCESS:
                delivery.state = "succeeded"
                return
            if attempt < TRIES:
                await asyncio.sleep(wait_after(attempt, random.random()) * self._settings.webhook_time_factor)
        delivery.state = "failed"

    async def _post(self, url: str, body: bytes, headers: dict[str, str]) -> int:
        if self._client is None:
            self._client = httpx.AsyncClient(timeout=TIMEOUT_S)
        try:
            answer = await self._client.post(url, content=body, headers=headers)
        except httpx.HTTPError:
            return 0
        return answer.status_code

    def _view(self, thing: Subscription | Customer | Invoice | Wallet) -> dict[str, Any]:
        match thing:
            case Subscription():
                return views.subscription(self._state, thing)
            case Customer():
                return views.customer(self._state, thing)
            case Invoice():
                return views.invoice(self._state, thing)
            case Wallet():
                return views.wallet(self._state, thing)

    def _event_errors(self, events: list[Event]) -> dict[str, Any]:
        """Ids only, by what is wrong with them, as the hourly `events.errors` has them."""
        metrics = self._state.metrics
        return {
            "invalid_code": [event.transaction_id for event in events if event.code not in metrics],
            "missing_aggregation_property": [
                event.transaction_id
                for event in events
                if event.code in metrics and metrics[event.code].field_name not in {None, *event.properties}
            ],
            "missing_group_key": [],
            "invalid_filter_values": [],
        }


def wait_after(tries: int, chance: float) -> float:
    """Seconds until the next try: about 3 after the first, 18 to 20 after the second. `chance` is 0 to 1."""
    return tries**4 * (1 + 0.15 * chance) + 2
