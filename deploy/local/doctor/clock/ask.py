"""Reads other clocks."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import httpx
import psycopg

from deploy.local.doctor import place
from deploy.local.doctor.clock import rules
from deploy.local.doctor.clock.rules import Reading
from deploy.local.doctor.database.ask import connect
from deploy.local.doctor.result import Result
from deploy.local.doctor.steve.ask import NOBODY, Access
from deploy.local.doctor.target import Target
from deploy.local.doctor.upstream import TIMEOUT_S
from services.sync.lago.client import API as LAGO_API
from services.sync.steve.client import API as STEVE_API
from shared.runtime.clock import Clock
from shared.web.client import http_client

DEFAULT_BOUND_S: Final = 300.0
Ask = Callable[[], Awaitable[Reading | None]]


def check_steve(target: Target, clock: Clock) -> Ask:
    """A tag that nobody has: SteVe's error names its own time, to the millisecond (facts: errors).

    A proxy's Date, which a success might carry, is not SteVe's.
    """

    async def ask() -> Reading | None:
        access = Access.of(target)
        if not access.url:
            return None
        async with access.http() as client:
            return await _read(client, f"{STEVE_API}/ocppTags/{NOBODY}", clock)

    return ask


def check_lago(target: Target, clock: Clock) -> Ask:
    async def ask() -> Reading | None:
        url = target.setting("sync", "lago_url")
        if not url:
            return None
        async with http_client(url.rstrip("/").removesuffix(LAGO_API), timeout_s=TIMEOUT_S) as client:
            return await _read(client, f"{LAGO_API}/organizations", clock)

    return ask


def check_database(target: Target, clock: Clock) -> Ask:
    async def ask() -> Reading | None:
        where = await asyncio.to_thread(place.database, target)
        if where.running is False or where.url is None:
            return None
        async with await connect(where.url) as connection:
            before = clock()
            row = await (await connection.execute("SELECT clock_timestamp()")).fetchone()
            return Reading(row[0].astimezone(UTC), before, clock(), 0.0) if row else None

    return ask


async def check(name: str, ask: Ask, target: Target) -> list[Result]:
    try:
        bound_s = float(target.setting("preauth", "fresh_s"))
    except ValueError:
        # Told by the check of the settings.
        bound_s = DEFAULT_BOUND_S
    try:
        reading = await ask()
    except (httpx.HTTPError, httpx.InvalidURL, psycopg.Error, ValueError):
        reading = None
    return [rules.judge(name, reading, bound_s=bound_s)]


async def _read(client: httpx.AsyncClient, path: str, clock: Clock) -> Reading | None:
    before = clock()
    answer = await client.get(path)
    after = clock()
    stamp = _timestamp(answer)
    if stamp is not None:
        return Reading(stamp, before, after, 0.0)
    date = _date(answer)
    return None if date is None else Reading(date, before, after, 1.0)


def _timestamp(answer: httpx.Response) -> datetime | None:
    try:
        body = json.loads(answer.content)
        stamp = datetime.fromisoformat(body["timestamp"])
    except (ValueError, TypeError, KeyError):
        return None
    return stamp.replace(tzinfo=UTC) if stamp.tzinfo is None else stamp.astimezone(UTC)


def _date(answer: httpx.Response) -> datetime | None:
    """The Date header, to the second (RFC 9110, 6.6.1)."""
    try:
        return parsedate_to_datetime(answer.headers["Date"]).astimezone(UTC)
    except (KeyError, ValueError):
        return None
