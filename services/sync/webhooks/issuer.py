"""Lago's public key and our organisation, asked for when first needed and kept."""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from joserfc.jwk import RSAKey

from services.sync.lago.client import LagoClient
from services.sync.upstreams.errors import MisconfiguredError, UpstreamError
from services.sync.webhooks.signature import read_public_key
from shared.runtime.clock import Clock

KEPT: Final = timedelta(hours=1)
# Anybody can send what does not verify; that must not become a request to Lago each time.
RENEWED_AT_MOST_EVERY: Final = timedelta(seconds=60)
ASKED_AT_MOST_EVERY: Final = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Issuer:
    """`organization_id`: one Lago signs for all its organisations with one key, so the body must name ours."""

    key: RSAKey
    organization_id: str | None


class IssuerCache:
    def __init__(self, lago: LagoClient, *, clock: Clock) -> None:
        self._lago, self._clock = lago, clock
        self._lock = asyncio.Lock()
        self._known: Issuer | None = None
        self._known_at: datetime | None = None
        self._failed: tuple[datetime, UpstreamError] | None = None

    async def current(self) -> Issuer:
        """:raises UpstreamError: Lago did not answer, and nothing is known from before."""
        async with self._lock:
            if self._known is None or self._age() >= KEPT:
                try:
                    await self._ask()
                except UpstreamError:
                    if self._known is None:
                        raise
            assert self._known is not None  # noqa: S101 - asked for above, or it raised
            return self._known

    async def renewed(self, seen: Issuer) -> Issuer | None:
        """Another one than `seen`, if Lago has a new key since; None where it has not, or was just asked."""
        async with self._lock:
            if self._known is seen:
                if self._age() < RENEWED_AT_MOST_EVERY:
                    return None
                try:
                    await self._ask()
                except UpstreamError:
                    return None
            assert self._known is not None  # noqa: S101 - `seen` came from here
            return self._known if self._known.key.thumbprint() != seen.key.thumbprint() else None

    def _age(self) -> timedelta:
        return self._clock() - self._known_at if self._known_at is not None else KEPT

    async def _ask(self) -> None:
        now = self._clock()
        if self._failed is not None and now - self._failed[0] < ASKED_AT_MOST_EVERY:
            raise self._failed[1]
        try:
            text = await self._lago.webhook_public_key()
            organization = await self._lago.organization()
            key = read_public_key(text)
        except UpstreamError as error:
            self._failed = (now, error)
            raise
        except ValueError as error:
            fault = MisconfiguredError("lago", "unexpected_form", "answered with a public key that cannot be read")
            self._failed = (now, fault)
            raise fault from error
        self._failed = None
        self._known, self._known_at = Issuer(key, organization.lago_id), now
