"""What is kept, how it is forgotten, and that neither is felt at a tap."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.rows import dict_row
from sqlalchemy.exc import OperationalError

from services.preauth.decision import statement, store
from services.preauth.decision.group import OPTIONS
from services.preauth.decision.jobs import Months
from services.preauth.decision.statement import Waiting, Windows
from services.preauth.decision.tap import Tap
from services.preauth.housekeeping import Housekeeping
from shared.contracts.requests.preauth import ArmPairing
from tests.databases import TestDatabase, fresh_database
from tests.infra import Infra
from tests.integration.services.preauth.world import Preauth, running

CP = "CP-7"
KEPT_DAYS = 400
MONTHS = 13


@pytest.fixture
def database(infra: Infra) -> Iterator[TestDatabase]:
    """Nobody else's, before or afterwards: months are made here that others would not have."""
    with fresh_database(infra.postgres.url, ["preauth"]) as fresh:
        yield fresh


def partitions(preauth: Preauth) -> set[str]:
    found = preauth.rows("SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'tap'::regclass")
    return {str(row["name"]).rpartition(".")[2] for row in found if "tap_" in str(row["name"])}


def name_of(at: datetime) -> str:
    return f"tap_{at:%Y_%m}"


def put_tap(preauth: Preauth, id_tag: str, at: datetime) -> None:
    preauth.run(
        "INSERT INTO tap (received_at, tap_id, charge_box_id, id_tag, kind, via, reason, told)"
        " VALUES (%s, gen_random_uuid(), 'CP', %s, 'authorize', 'hook', 'nothing_armed', 'passed')",
        at,
        id_tag,
    )


async def keep(preauth: Preauth) -> None:
    """A turn of the job; it waits for locks a moment only, and on a busy machine the next turn does it."""
    job = Months(preauth.service.database, clock=preauth.clock, keep_days=KEPT_DAYS)
    await _patiently(job.keep)


async def make_month(preauth: Preauth, at: datetime) -> None:
    async def make() -> None:
        async with preauth.service.database.write() as tx:
            await store.keep_partitions(tx, now=at, ahead=0, keep_days=36500)

    await _patiently(make)


async def _patiently(work: Callable[[], Awaitable[None]]) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            return await work()
        except OperationalError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


async def test_months_are_made_ahead_and_dropped_when_they_are_old(preauth: Preauth) -> None:
    """Taps go on while an old month goes and new ones come; nothing lands in the default partition."""
    now = preauth.clock()
    old = now - timedelta(days=KEPT_DAYS + 62)
    await make_month(preauth, old)
    put_tap(preauth, "OLD", old)
    put_tap(preauth, "KEPT", now)
    assert name_of(old) in partitions(preauth)
    done = asyncio.Event()
    told: list[str | None] = []

    async def tapping() -> None:
        while not done.is_set():
            told.append(await preauth.tap(f"04A{len(told)}", CP))

    tapping_on = asyncio.create_task(tapping())
    await keep(preauth)
    preauth.clock.ahead += timedelta(days=70)
    await keep(preauth)
    await asyncio.sleep(0.2)
    done.set()
    await tapping_on
    assert len(told) > 1
    left = partitions(preauth)
    assert name_of(old) not in left
    assert {name_of(now), name_of(now + timedelta(days=70)), name_of(now + timedelta(days=100))} <= left
    assert set(told) == {None}
    await preauth.until("SELECT 1 FROM tap WHERE told = 'passed' HAVING count(*) = %s", len(told) + 1)
    assert preauth.rows("SELECT FROM preauth_journal.tap_default") == []


async def test_what_a_wrong_clock_left_hinders_no_month(preauth: Preauth) -> None:
    """A tap from the future waits in the default partition until its month is made; one from long ago is trimmed."""
    ahead, behind = preauth.clock() + timedelta(days=150), preauth.clock() - timedelta(days=KEPT_DAYS + 1)
    put_tap(preauth, "AHEAD", ahead)
    put_tap(preauth, "BEHIND", behind)
    await keep(preauth)
    left = preauth.rows("SELECT id_tag FROM preauth_journal.tap_default")
    assert left == [{"id_tag": "AHEAD"}]
    preauth.clock.ahead += timedelta(days=120)
    await keep(preauth)
    assert preauth.rows("SELECT FROM preauth_journal.tap_default") == []
    assert preauth.rows("SELECT tableoid::regclass::text AS place FROM tap WHERE id_tag = 'AHEAD'") == [
        {"place": f"preauth_journal.{name_of(ahead)}"}
    ]


async def test_a_month_that_is_read_is_dropped_later(preauth: Preauth) -> None:
    """Somebody reads an old month for long: the months to come are made all the same, and it goes the next time."""
    old = preauth.clock() - timedelta(days=KEPT_DAYS + 62)
    await make_month(preauth, old)
    preauth.clock.ahead += timedelta(days=70)
    with psycopg.connect(preauth.database.admin_url) as reader:
        reader.execute(f"SELECT count(*) FROM preauth_journal.{name_of(old)}".encode())
        await keep(preauth)
        assert {name_of(old), name_of(preauth.clock())} <= partitions(preauth)
    await keep(preauth)
    assert name_of(old) not in partitions(preauth)


async def test_old_things_are_forgotten_in_their_time(preauth: Preauth) -> None:
    """Pairings and gaps go with the journal, logins and codes after their time, devices when nobody used them."""
    await preauth.done(ArmPairing(charge_box_id=CP, purpose="find_card"))
    assert await preauth.tap("04A1", CP) == "BLOCKED"
    await preauth.until("SELECT 1 FROM pairing WHERE state = 'intercepted'")
    await preauth.done(ArmPairing(charge_box_id="still armed", purpose="find_card"))
    preauth.run(
        "INSERT INTO journal_gap SELECT gen_random_uuid(), now(), now(), 1, 'x'",
    )
    preauth.run(
        "INSERT INTO driver_session (session_id, token_hash, pairing_id, id_tag, created_at, seen_at, ended_at)"
        " VALUES (gen_random_uuid(), 'a', gen_random_uuid(), '04A1', now(), now(), now()),"
        " (gen_random_uuid(), 'b', gen_random_uuid(), '04A1', now(), now(), NULL)"
    )
    preauth.run("INSERT INTO login_code VALUES ('a', gen_random_uuid(), 'app', 'https://app', 'c', now())")
    preauth.run("INSERT INTO known_device VALUES ('04A1', 'b', now(), now())")
    preauth.run("INSERT INTO bound_browser VALUES ('04A1', 'b', now(), now())")
    preauth.run("INSERT INTO issued_browser VALUES ('b', now())")

    async def left(days: int) -> dict[str, int]:
        job = Housekeeping(
            preauth.service.database,
            clock=lambda: datetime.now(UTC) + timedelta(days=days),
            journal_days=400,
            logins_days=90,
            devices_days=200,
        )
        await job.forget()
        tables = (
            "pairing",
            "journal_gap",
            "driver_session",
            "login_code",
            "known_device",
            "bound_browser",
            "issued_browser",
        )
        return {table: len(preauth.rows(f"SELECT FROM {table}")) for table in tables}

    everything = dict.fromkeys(("journal_gap", "login_code", "known_device", "bound_browser", "issued_browser"), 1)
    assert await left(89) == {"pairing": 2, "driver_session": 2, **everything}
    assert await left(91) == {"pairing": 2, "driver_session": 1, **everything, "login_code": 0}
    assert (await left(201))["bound_browser"] == 0
    # One that is still armed is ended first; one session is still open.
    assert await left(401) == {"pairing": 1, "driver_session": 1, **dict.fromkeys(everything, 0)}


async def test_a_login_is_kept_as_long_as_the_setting_says(database: TestDatabase, tmp_path: Path) -> None:
    """Whatever the service deletes by itself, a session that ended is there for the days that are set."""
    async with running(database, tmp_path, logins_kept_days=90) as preauth:
        preauth.run(
            "INSERT INTO driver_session (session_id, token_hash, pairing_id, id_tag, created_at, seen_at, ended_at)"
            " VALUES (gen_random_uuid(), 'a', gen_random_uuid(), '04A1', now(), now(), now())"
        )
        for days, kept in ((89, 1), (91, 0)):
            preauth.clock.ahead = timedelta(days=days)
            for part in preauth.service.parts:
                if part.name.endswith(".forget"):
                    await part._job()  # type: ignore[attr-defined]
            assert len(preauth.rows("SELECT FROM driver_session")) == kept


FILL = """
    INSERT INTO tap (received_at, tap_id, charge_box_id, id_tag, kind, via, reason, told, told_at, in_time, duration_us)
    SELECT %(first)s + n * %(step)s, gen_random_uuid(), 'CP-' || n %% 1000, '04' || n %% 20000, 'authorize', 'hook',
        'nothing_armed', 'passed', %(first)s + n * %(step)s, true, 900
    FROM generate_series(1, %(taps)s) AS n
"""


@pytest.mark.parametrize("taps", [100_000, pytest.param(10_000_000, marks=pytest.mark.full)])
async def test_the_cost_of_a_tap_does_not_grow_with_the_months_behind_it(
    preauth: Preauth, taps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over a year of taps, deciding one takes as long as over none, and touches this month and its neighbours only."""
    before = await _statement_s(preauth)
    now = preauth.clock()
    first = now - timedelta(days=395)
    for n in range(MONTHS + 1):
        await make_month(preauth, first + timedelta(days=30 * n))
    step = (now - first) / (taps + 1)
    with psycopg.connect(preauth.database.admin_url, autocommit=True) as loading:
        loading.execute("SET search_path = preauth")
        loading.execute(FILL, {"first": first, "step": step, "taps": taps})
        loading.execute("VACUUM ANALYZE tap")
    after = await _statement_s(preauth)
    # A busy machine doubles a millisecond; reading a year of taps would take a thousand of them.
    assert after < 3 * before + 0.01
    touched = await _touched(preauth, monkeypatch)
    assert name_of(now) in touched
    assert touched <= {name_of(now), name_of(now - timedelta(days=1)), "tap_default"}


def _waiting(n: int) -> Waiting:
    tap = Tap(f"04{n}", f"CP-{n}", "authorize", "hook", time.monotonic(), sent_at=datetime.now(UTC))
    return Waiting(tap, uuid4(), datetime.now(UTC), stale=False)


async def _statement_s(preauth: Preauth) -> float:
    """The median of the hot statement's time, on a connection like the tap's own."""
    sql = statement.flush_sql(Windows())
    url = preauth.database.url("preauth").replace("+psycopg", "")
    async with await psycopg.AsyncConnection.connect(url, autocommit=True, options=OPTIONS) as connection:
        took = []
        for n in range(40):
            started = time.perf_counter()
            await statement.flush(connection, sql, [_waiting(n)], [])
            took.append(time.perf_counter() - started)
    return statistics.median(took)


async def _touched(preauth: Preauth, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The partitions that the statement reads for one tap, by its plan as it was executed."""
    monkeypatch.setattr(statement, "class_row", lambda _: dict_row)
    sql = "EXPLAIN (ANALYZE, FORMAT JSON) " + statement.flush_sql(Windows())
    url = preauth.database.url("preauth").replace("+psycopg", "")
    async with await psycopg.AsyncConnection.connect(url, autocommit=True, options=OPTIONS) as connection:
        [explained] = await statement.flush(connection, sql, [_waiting(0)], [])
    nodes: list[dict[str, Any]] = [explained["QUERY PLAN"][0]["Plan"]]  # type: ignore[index]
    touched = set()
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", [])
        if node.get("Actual Loops") and str(node.get("Relation Name")).startswith("tap_"):
            touched.add(str(node["Relation Name"]))
    return touched
