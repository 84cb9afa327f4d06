"""What must hold whatever happens in whatever order: a state machine against the real decision, pairing and login."""

import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

import httpx
import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from services.preauth.decision.tap import Decision, Tap
from services.preauth.main import wire
from services.preauth.pairing.arming import Driver
from services.preauth.pairing.rules import AlreadyArmed, TooManyScans
from services.preauth.pairing.secrets import digest
from shared.contracts.problem import Problem
from shared.contracts.requests.preauth import CancelPairing, EnrolKiosk, SwitchInterception
from tests.databases import TestDatabase, fresh_database
from tests.infra import Infra
from tests.integration.services.preauth.sync_double import SyncDouble
from tests.integration.services.preauth.world import BUS, MovableClock, Preauth, settings_for
from tests.waiting import until

CHARGERS = ("A", "B")
CARDS = ("04A1", "04B2", "04C3")
BROWSERS = (digest("one"), digest("two"))
DECIDE_S = 0.3
REPEAT = timedelta(seconds=10)


@dataclass
class Scan:
    """A pairing as the model knows it."""

    pairing_id: UUID
    charger: str
    browser: bytes
    armed_at: datetime
    expires_at: datetime
    ended: bool = False
    # The tap that was told Blocked in time, if any: card, and when.
    scanned: tuple[str, datetime] | None = None


class Rig:
    """One preauth whose loop runs only while a step is taken; its database is emptied between examples."""

    def __init__(self, database: TestDatabase, folder: Path) -> None:
        self.database, self.clock = database, MovableClock()
        self.runner = asyncio.Runner()
        self.admin = psycopg.connect(database.admin_url, autocommit=True)
        self.admin.execute("SET search_path = preauth")
        self.runner.run(self._start(folder))

    async def _start(self, folder: Path) -> None:
        configuration = settings_for(
            self.database,
            folder,
            decide_within_ms=int(DECIDE_S * 1000),
            answer_within_ms=int(DECIDE_S * 1000),
            cooldown_s=0,
            scans_per_charger=100_000,
            scans_per_kiosk=100_000,
        )
        self.service, self.taps, self.drivers = wire(configuration, clock=self.clock)
        # Time passes in steps here: what is periodic is a step, too.
        periodic = {"taps.sweep", "pairings.expire", "login.end_old", "evidence.judge", "evidence.rates"}
        self.service.parts = [part for part in self.service.parts if part.name not in BUS | periodic]
        self.taps.group.healthy_for_s = lambda: 60.0  # type: ignore[method-assign]
        self.sync = SyncDouble()
        self.service.requester.ask = self.sync.ask  # type: ignore[method-assign]
        for card in CARDS[:2]:
            self.sync.know(card)
        self.stop = asyncio.Event()
        self.running = asyncio.create_task(self.service.run(self.stop))
        await until(self._available)

    async def _available(self) -> bool:
        return self.taps.group.available

    def close(self) -> None:
        async def stop() -> None:
            self.stop.set()
            await self.running

        self.runner.run(stop())
        self.runner.close()
        self.admin.close()

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        cursor = self.admin.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


@contextmanager
def locked(rig: Rig) -> Iterator[None]:
    """The journal cannot be written meanwhile."""
    with psycopg.connect(rig.database.admin_url) as connection:
        connection.execute("LOCK TABLE preauth.tap IN SHARE MODE")
        yield


class Taps(RuleBasedStateMachine):
    """Arms, taps, answers in time or late or never, logs in, cancels, waits, in any order."""

    rig: ClassVar[Rig]

    def __init__(self) -> None:
        super().__init__()
        self.rig.sql(
            "TRUNCATE tap, pairing, driver_session, known_device, kiosk, interception_off, outbox, sweep,"
            " request_result, subject_version, override_outcome"
        )
        self.now = self.rig.clock
        self.scans: list[Scan] = []
        self.logins: list[UUID] = []
        self.off = False
        preauth = Preauth(
            self.rig.service,
            self.rig.database,
            self.now,
            httpx.AsyncClient(),
            self.rig.taps,
            self.rig.drivers,
        )
        self.preauth = preauth
        made = self.run(preauth.done(EnrolKiosk(kiosk_name="hall", charge_box_ids=list(CHARGERS))))
        self.key = self.run(self.rig.drivers.kiosks.exchange(made["code"]))

    def run(self, work: Any) -> Any:  # noqa: ANN401 - whatever it gives
        return self.rig.runner.run(work)

    @rule(charger=st.sampled_from(CHARGERS), browser=st.sampled_from(BROWSERS))
    def arm(self, charger: str, browser: bytes) -> None:
        driver = Driver(browser=browser, source="127.0.0.1", kiosk_key=self.key)
        try:
            row = self.run(self.rig.drivers.arming.arm_as_driver(charger, None, driver))
        except (AlreadyArmed, TooManyScans):
            return
        self.scans.append(Scan(row.pairing_id, charger, browser, row.armed_at, row.expires_at))

    @rule(
        charger=st.sampled_from(CHARGERS),
        card=st.sampled_from(CARDS),
        start=st.booleans(),
        answer=st.sampled_from(["at once", "at once", "at once", "late", "gone", "killed"]),
    )
    def tap(self, charger: str, card: str, start: bool, answer: str) -> None:  # noqa: FBT001
        """A card is presented, and the answer reaches the charger in time, late, not at all, or nobody records it."""
        at = self.now()
        decision = self._decide(charger, card, start=start)
        self._was_allowed(decision, charger, card, at)
        decider = self.rig.taps.decider
        if answer == "killed":
            # As after a restart: nobody waits for what the dead process told.
            decider.recorded(decision.tap_id)
            return
        if answer == "late":
            decision = replace(decision, tap=replace(decision.tap, arrived=time.monotonic() - DECIDE_S - 1))
        blocks = decider.may_block(decision)
        assert not (blocks and answer == "late")
        told = "unknown" if answer == "gone" else "blocked" if blocks else "passed"
        decider.told(decision, told)  # type: ignore[arg-type]
        self.run(self._settle())
        if told == "blocked" and decision.reason == "matched" and not decision.repeat:
            scan = next(scan for scan in self.scans if scan.pairing_id == decision.pairing_id)
            assert scan.scanned is None, "one scan took two taps"
            scan.scanned = (card, at)

    @rule(charger=st.sampled_from(CHARGERS), card=st.sampled_from(CARDS))
    def tap_while_the_database_stalls(self, charger: str, card: str) -> None:
        """The commit comes after the deadline, if at all: null is told in time, and nobody is logged in by it."""
        with locked(self.rig):
            started = time.monotonic()
            decision = self._decide(charger, card)
            assert time.monotonic() - started < DECIDE_S + 1.0, "a tap was delayed beyond the deadline"
            assert not decision.block
            self.rig.taps.decider.told(decision, "passed")
        self.run(self._settle())

    @rule(seconds=st.sampled_from([1, 4, 11, 40, 95]))
    def wait(self, seconds: int) -> None:
        self.now.ahead += timedelta(seconds=seconds)

    @rule()
    def sweep(self) -> None:
        """What nobody recorded is closed, as it is every second."""
        self.run(self.rig.taps.sweeper.sweep())

    @rule()
    def expire(self) -> None:
        self.run(self.rig.drivers.pairings.expire())

    @rule(on=st.booleans())
    def switch(self, on: bool) -> None:  # noqa: FBT001
        self.run(self.preauth.done(SwitchInterception(on=on)))
        self.off = not on

    @precondition(lambda self: self.scans)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        scan = data.draw(st.sampled_from(self.scans))
        reply = self.run(self.preauth.ask(CancelPairing(pairing_id=scan.pairing_id)))
        if reply.ok:
            scan.ended = True

    @precondition(lambda self: self.scans)
    @rule(data=st.data(), browser=st.sampled_from(BROWSERS))
    def log_in(self, data: st.DataObject, browser: bytes) -> None:
        """A browser tries to use a scan: only its own, only after Blocked was told in time, only with a good card."""
        scan = data.draw(st.sampled_from(self.scans))
        try:
            self.run(self.rig.drivers.login.complete(scan.pairing_id, browser, None))
        except Problem:
            return
        assert browser == scan.browser, "another browser got in"
        assert scan.scanned is not None, "a login without Blocked told in time"
        assert scan.scanned[0] in CARDS[:2], "a card that sync does not know got in"
        self.logins.append(scan.pairing_id)

    @invariant()
    def at_most_one_login_per_tap(self) -> None:
        twice = self.rig.sql(
            "SELECT p.tap_id FROM driver_session s JOIN pairing p USING (pairing_id) GROUP BY 1 HAVING count(*) > 1"
        )
        assert twice == []
        [(sessions,)] = self.rig.sql("SELECT count(*) FROM driver_session")
        assert sessions == len(set(self.logins))
        assert sessions <= sum(scan.scanned is not None for scan in self.scans)

    @invariant()
    def scans_are_told_as_they_were(self) -> None:
        """An event for each tap that was told Blocked in time as a match, and for no other."""
        found = self.rig.sql(
            "SELECT convert_from(body, 'UTF8')::jsonb #>> '{data,pairing_id}' FROM outbox"
            " WHERE routing_key = 'scan.intercepted'"
        )
        assert sorted(row[0] for row in found) == sorted(str(s.pairing_id) for s in self.scans if s.scanned)

    def _decide(self, charger: str, card: str, *, start: bool = False) -> Decision:
        tap = Tap(card, charger, "start" if start else "authorize", "hook", time.monotonic(), sent_at=self.now())
        decision: Decision = self.run(self.rig.taps.decider.decide(tap))
        return decision

    def _was_allowed(self, decision: Decision, charger: str, card: str, at: datetime) -> None:
        """Nothing is intercepted without a scan that waits, except the same card again, seconds after its scan."""
        if not decision.block:
            return
        assert not self.off, "intercepted although switched off"
        here = [scan for scan in self.scans if scan.charger == charger]
        waits = any(scan.scanned is None and not scan.ended and at < scan.expires_at for scan in here)
        again = any(
            scan.scanned is not None and scan.scanned[0] == card and at < min(scan.scanned[1] + REPEAT, scan.expires_at)
            for scan in here
        )
        assert again or (waits and decision.tap.kind == "authorize"), "intercepted without a scan that waits"

    async def _settle(self) -> None:
        """Until what was told is written down."""
        parts = self.rig.taps
        deadline = time.monotonic() + 10
        while parts.group.pending() or parts.matches.pending() or len(parts.spool):
            assert time.monotonic() < deadline, "what was told is not written down"
            await parts.replay.replay()
            await asyncio.sleep(0.002)


@pytest.fixture
def rig(infra: Infra) -> Iterator[Rig]:
    with fresh_database(infra.postgres.url, ["preauth"]) as database, tempfile.TemporaryDirectory() as folder:
        made = Rig(database, Path(folder))
        try:
            yield made
        finally:
            made.close()


@pytest.mark.parametrize(
    ("examples", "steps"), [(12, 20), pytest.param(150, 40, marks=pytest.mark.full)], ids=["quick", "full"]
)
def test_what_must_hold_holds(rig: Rig, examples: int, steps: int) -> None:
    """One login per tap at most, none without Blocked in time, no tap delayed, nothing intercepted without a scan."""
    Taps.rig = rig
    run_state_machine_as_test(
        Taps,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
            database=None,
        ),
    )
