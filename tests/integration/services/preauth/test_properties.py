"""What must hold whatever happens in whatever order: a state machine against the real decision, pairing and login."""

import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
from msgspec.structs import replace

from services.preauth.decision.tap import Decision, Tap
from services.preauth.main import wire
from services.preauth.pairing.arming import Driver
from services.preauth.pairing.rules import AlreadyArmed, InterceptionOff, TooManyScans
from services.preauth.pairing.secrets import digest
from services.preauth.wiring.drivers import DriverParts
from services.preauth.wiring.taps import TapParts
from shared.contracts.events.preauth import TapKind, Told, Via
from shared.contracts.problem import Problem
from shared.contracts.requests.preauth import CancelPairing, EnrolKiosk, RotateChargerQr, SetCardPin, SwitchInterception
from shared.runtime.service import Service
from shared.runtime.supervisor import Every
from tests.databases import TestDatabase, fresh_database, locked
from tests.infra import Infra
from tests.integration.services.preauth.sync_double import SyncDouble
from tests.integration.services.preauth.world import BUS, MovableClock, Preauth, settings_for
from tests.waiting import until

CHARGERS = ("A", "B")
CARDS = ("04A1", "04B2", "04C3")
KNOWN = CARDS[:2]
# The only card that has one.
WITH_PIN, PIN = CARDS[0], "2468"
BROWSERS = ("one", "two")
REPLICAS = (0, 1)
DECIDE_S = 0.3
# Counted by the same loop, which a busy machine delays as much as the deadline itself.
SLACK_S = 0.05
# The same card through hook and gateway within this time is one tap, which has one answer.
SAME_TAP = timedelta(seconds=2)
REPEAT = timedelta(seconds=10)


@dataclass
class Scan:
    """A pairing as the model knows it."""

    pairing_id: UUID
    charger: str
    browser: str
    armed_at: datetime
    expires_at: datetime
    weak: bool = False
    ended: bool = False
    # The tap that was told Blocked in time, if any: card, and when.
    scanned: tuple[str, datetime] | None = None


@dataclass(frozen=True)
class Replica:
    service: Service
    taps: TapParts
    drivers: DriverParts


class Rig:
    """Two replicas whose loop runs only while a step is taken; their database is emptied between examples."""

    def __init__(self, database: TestDatabase, folder: Path) -> None:
        self.database, self.clock = database, MovableClock()
        self.runner = asyncio.Runner()
        self.admin = psycopg.connect(database.admin_url, autocommit=True)
        self.admin.execute("SET search_path = preauth")
        self.runner.run(self._start(folder))

    async def _start(self, folder: Path) -> None:
        self.sync = SyncDouble()
        for card in KNOWN:
            self.sync.know(card)
        self.replicas = [self._replica(folder / str(number)) for number in REPLICAS]
        self.stop = asyncio.Event()
        self.running = [asyncio.create_task(replica.service.run(self.stop)) for replica in self.replicas]
        await until(self._available)

    def _replica(self, folder: Path) -> Replica:
        configuration = settings_for(
            self.database,
            folder,
            decide_within_ms=int(DECIDE_S * 1000),
            answer_within_ms=int(DECIDE_S * 1000),
            cooldown_s=0,
            scans_per_charger=100_000,
            scans_per_kiosk=100_000,
            scans_per_source=100_000,
        )
        service, taps, drivers = wire(configuration, clock=self.clock, database_time=self.clock.database_time)
        # Time passes in steps here: what is periodic is a step, too, and would hold its locks from one to the next.
        service.parts = [part for part in service.parts if part.name not in BUS and not isinstance(part, Every)]
        taps.group.healthy_for_s = lambda: 60.0  # type: ignore[method-assign]
        service.requester.ask = self.sync.ask  # type: ignore[method-assign]
        return Replica(service, taps, drivers)

    async def _available(self) -> bool:
        return all(replica.taps.group.available for replica in self.replicas)

    def close(self) -> None:
        async def stop() -> None:
            self.stop.set()
            await asyncio.gather(*self.running)

        self.runner.run(stop())
        self.runner.close()
        self.admin.close()

    def sql(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        cursor = self.admin.execute(statement.encode(), parameters or None)
        return cursor.fetchall() if cursor.description else []


@contextmanager
def journal_locked(rig: Rig) -> Iterator[None]:
    """The journal cannot be written meanwhile."""
    lock = locked(rig.database, b"preauth.tap")
    rig.runner.run(lock.__aenter__())
    try:
        yield
    finally:
        rig.runner.run(lock.__aexit__(None, None, None))


class Taps(RuleBasedStateMachine):
    """Arms, taps, answers in time or late or never, logs in, cancels, waits, in any order."""

    rig: ClassVar[Rig]

    def __init__(self) -> None:
        super().__init__()
        self.rig.sql(
            "TRUNCATE tap, pairing, driver_session, known_device, kiosk, interception_off, outbox, sweep,"
            " request_result, subject_version, override_outcome, card_pin, bound_browser, charger_qr, open_session"
        )
        self.now = self.rig.clock
        self.scans: list[Scan] = []
        self.logins: list[UUID] = []
        self.off = False
        # Which cards charge where, and which browsers their owners bound with the PIN.
        self.charging: set[tuple[str, str]] = set()
        self.bound: set[str] = set()
        # What each browser holds, and what it held before it was bound, which a thief may have.
        self.held: dict[str, str] = {}
        self.old: set[str] = {"guessed"}
        one = self.rig.replicas[0]
        preauth = Preauth(one.service, self.rig.database, self.now, httpx.AsyncClient(), one.taps, one.drivers)
        self.preauth = preauth
        made = self.run(preauth.done(EnrolKiosk(kiosk_name="hall", charge_box_ids=list(CHARGERS))))
        self.key = self.run(one.drivers.kiosks.exchange(made["code"]))
        self.run(preauth.done(SetCardPin(id_tag=WITH_PIN, pin=PIN)))
        self.qr = {charger: self.run(preauth.done(RotateChargerQr(charge_box_id=charger))) for charger in CHARGERS}

    def run(self, work: Any) -> Any:  # noqa: ANN401 - whatever it gives
        return self.rig.runner.run(work)

    @rule(
        charger=st.sampled_from(CHARGERS),
        browser=st.sampled_from(BROWSERS),
        replica=st.sampled_from(REPLICAS),
        presence=st.sampled_from(["kiosk", "kiosk", "qr"]),
    )
    def arm(self, charger: str, browser: str, replica: int, presence: str) -> None:
        """By a kiosk beside the charger, or by its QR code, which may be a photo of it."""
        weak = presence == "qr"
        key = httpx.URL(self.qr[charger]["address"]).params["key"]
        driver = Driver(
            browser=self.held.get(browser),
            source="127.0.0.1",
            kiosk_key=None if weak else self.key,
            qr_secret=key if weak else None,
        )
        try:
            row, secret = self.run(self.rig.replicas[replica].drivers.arming.arm_as_driver(charger, None, driver))
        except (AlreadyArmed, TooManyScans):
            return
        except InterceptionOff:
            assert self.off
            return
        assert row.weak == weak
        assert self.held.setdefault(browser, secret) == secret
        self.scans.append(Scan(row.pairing_id, charger, secret, row.armed_at, row.expires_at, weak))

    @rule(
        charger=st.sampled_from(CHARGERS),
        card=st.sampled_from(CARDS),
        kind=st.sampled_from(["authorize", "authorize", "start"]),
        way=st.tuples(st.sampled_from(REPLICAS), st.sampled_from(["hook", "gateway"])),
        answer=st.sampled_from(["at once", "at once", "at once", "late", "gone", "killed"]),
    )
    def tap(self, charger: str, card: str, kind: TapKind, way: tuple[int, Via], answer: str) -> None:
        """A card is presented, and the answer reaches the charger in time, late, not at all, or nobody records it."""
        (replica, via), at = way, self.now()
        decision = self._decide(replica, Tap(card, charger, kind, via, time.monotonic(), sent_at=self._sent(via)))
        self._was_allowed(decision, charger, card, at)
        decider = self.rig.replicas[replica].taps.decider
        if answer == "killed":
            # As after a restart: nobody waits for what the dead process told.
            decider.recorded(decision.tap_id)
            return
        if answer == "late":
            decision = replace(decision, tap=replace(decision.tap, arrived=time.monotonic() - DECIDE_S - 1))
        blocks = decider.may_block(decision)
        assert not (blocks and answer == "late")
        told: Told = "unknown" if answer == "gone" else "blocked" if blocks else "passed"
        decider.told(decision, told)
        self.run(self._settle())
        if told == "blocked" and decision.reason == "matched" and not decision.repeat:
            scan = next(scan for scan in self.scans if scan.pairing_id == decision.pairing_id)
            assert scan.scanned is None, "one scan took two taps"
            scan.scanned = (card, at)

    @rule(charger=st.sampled_from(CHARGERS), card=st.sampled_from(CARDS), replica=st.sampled_from(REPLICAS))
    def authorize_of_a_remote_start(self, charger: str, card: str, replica: int) -> None:
        """What the gateway saw SteVe ask for is no tap, whatever is armed. Unless it just was one, through the hook."""
        tap = Tap(card, charger, "authorize", "gateway", time.monotonic(), remote_start=True)
        decision = self._decide(replica, tap)
        assert decision.repeat or not decision.block, "a remote start was intercepted"
        if not decision.block:
            self.rig.replicas[replica].taps.decider.told(decision, "passed")
            self.run(self._settle())

    @rule(
        charger=st.sampled_from(CHARGERS),
        card=st.sampled_from(CARDS),
        via=st.sampled_from(["hook", "gateway"]),
        replica=st.sampled_from(REPLICAS),
    )
    def tap_while_the_database_stalls(self, charger: str, card: str, via: Via, replica: int) -> None:
        """The commit comes after the deadline, if at all: null is told in time, and nobody is logged in by it."""
        with journal_locked(self.rig):
            decision = self._decide(replica, Tap(card, charger, "authorize", via, time.monotonic()))
            assert not decision.block
            self.rig.replicas[replica].taps.decider.told(decision, "passed")
        self.run(self._settle())

    @rule(charger=st.sampled_from(CHARGERS), card=st.sampled_from(CARDS))
    def session_starts_or_stops(self, charger: str, card: str) -> None:
        """A card that charges here means stop when it is presented again."""
        if (charger, card) in self.charging:
            self.rig.sql(
                "UPDATE open_session SET stopped_at = now() WHERE charge_box_id = %s AND id_tag = %s", charger, card
            )
        else:
            self.rig.sql(
                "INSERT INTO open_session (charge_box_id, transaction_id, connector_id, id_tag, started_at)"
                " SELECT %s, count(*) + 1, 1, %s, %s FROM open_session",
                charger,
                card,
                self.now(),
            )
        self.charging ^= {(charger, card)}

    @rule(seconds=st.sampled_from([1, 4, 11, 40, 95]))
    def wait(self, seconds: int) -> None:
        self.now.ahead += timedelta(seconds=seconds)

    @rule()
    def sweep(self) -> None:
        """What nobody recorded is closed, as it is every second."""
        for replica in self.rig.replicas:
            self.run(replica.taps.sweeper.sweep())

    @rule()
    def expire(self) -> None:
        self.run(self.rig.replicas[1].drivers.pairings.expire())

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
    @rule(
        data=st.data(),
        replica=st.sampled_from(REPLICAS),
        pin=st.sampled_from([None, PIN, "0000"]),
    )
    def log_in(self, data: st.DataObject, replica: int, pin: str | None) -> None:
        """A browser tries to use a scan: only its own, only after Blocked was told in time, only with a good card."""
        scan = data.draw(st.sampled_from(self.scans))
        secret = data.draw(st.sampled_from([*self.held.values(), *sorted(self.old)]))
        login = self.rig.replicas[replica].drivers.login
        try:
            renewed = self.run(login.complete(scan.pairing_id, digest(secret), pin)).browser
        except Problem:
            return
        assert secret == scan.browser, "another browser got in"
        assert scan.scanned is not None, "a login without Blocked told in time"
        assert scan.scanned[0] in KNOWN, "a card that sync does not know got in"
        if scan.weak and scan.pairing_id not in self.logins:
            assert scan.scanned[0] == WITH_PIN, "a photo of the code got in with a card that has no PIN"
            assert pin == PIN or secret in self.bound, "a photo of the code got in without the PIN"
            assert (renewed is None) == (secret in self.bound)
        if renewed is not None:
            self.bound.add(renewed)
            self.old.add(secret)
            self.held = {name: renewed if held == secret else held for name, held in self.held.items()}
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

    @invariant()
    def the_end_of_a_scan_that_took_nothing_is_told(self) -> None:
        """Once, however it ended; and of no other."""
        told = self.rig.sql(
            "SELECT convert_from(body, 'UTF8')::jsonb #>> '{data,pairing_id}' FROM outbox"
            " WHERE routing_key IN ('pairing.cancelled', 'pairing.expired')"
        )
        ended = self.rig.sql("SELECT pairing_id::text FROM pairing WHERE state IN ('void', 'cancelled', 'expired')")
        assert sorted(told) == sorted(ended)

    def _sent(self, via: Via) -> datetime | None:
        return self.now() if via == "hook" else None

    def _decide(self, replica: int, tap: Tap) -> Decision:
        async def within_the_deadline() -> Decision:
            deciding = asyncio.create_task(self.rig.replicas[replica].taps.decider.decide(tap))
            await asyncio.wait({deciding}, timeout=DECIDE_S + SLACK_S)
            assert deciding.done(), "a tap was delayed beyond the deadline"
            return deciding.result()

        decision: Decision = self.run(within_the_deadline())
        return decision

    def _was_allowed(self, decision: Decision, charger: str, card: str, at: datetime) -> None:
        """Nothing is intercepted without a scan that waits, except the same card again, seconds after its scan; and
        then always, whatever else waits there.
        """
        here = [scan for scan in self.scans if scan.charger == charger]

        def again(at: datetime) -> bool:
            return any(
                scan.scanned is not None
                and scan.scanned[0] == card
                and at < min(scan.scanned[1] + REPEAT, scan.expires_at)
                for scan in here
            )

        if again(self.now()) and decision.journalled and not decision.repeat:
            told_again = "repeated"
            if self.off:
                told_again = "switched_off"
            elif decision.tap.kind == "start" and decision.tap.via == "gateway":
                told_again = "not_answered_here"
            assert decision.reason == told_again, "a repeat was not told what was told"
        if not decision.block:
            return
        if decision.repeat:
            # The same tap on its other way: it is told what it was told before.
            told = [scan.scanned for scan in here if scan.scanned is not None]
            assert any(before == card and at < since + REPEAT + SAME_TAP for before, since in told), "Blocked twice"
            return
        assert not self.off, "intercepted although switched off"
        assert decision.tap.kind == "authorize" or decision.tap.via == "hook", "a start was kept from SteVe"
        waiting = [scan for scan in here if scan.scanned is None and not scan.ended and at < scan.expires_at]
        assert again(at) or (waiting and decision.tap.kind == "authorize"), "intercepted without a scan that waits"
        if decision.reason == "matched":
            assert (charger, card) not in self.charging, "a stop was taken for a scan"
            scan = next(scan for scan in waiting if scan.pairing_id == decision.pairing_id)
            assert not scan.weak or card == WITH_PIN, "a photo of the code kept a card from charging"

    async def _settle(self) -> None:
        """Until what was told is written down."""
        deadline = time.monotonic() + 10
        for replica in self.rig.replicas:
            parts = replica.taps
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
    ("examples", "steps"),
    [(8, 20), pytest.param(60, 40, marks=[pytest.mark.full, pytest.mark.timeout(1200)])],
    ids=["quick", "full"],
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
            # The small run is the same every time; the large one goes elsewhere each time, and prints how to get there.
            derandomize=examples < 60,
            print_blob=True,
            database=None,
        ),
    )
