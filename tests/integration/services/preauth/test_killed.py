"""A process that is killed between its answer and the record of it, and one killed while the database is away."""

from datetime import timedelta
from pathlib import Path

from deploy.demo.chargers.charger import Charger
from deploy.demo.chargers.settings import ChargerSettings
from deploy.demo.steve.settings import SteveSettings
from deploy.demo.steve.simulator import run_steve
from shared.contracts.requests.preauth import ArmPairing
from tests.databases import TestDatabase, locked, refusing
from tests.integration.services.preauth.processes import process
from tests.integration.services.preauth.world import running

CP = "CP-7"


async def test_killed_between_the_answer_and_its_record(database: TestDatabase, tmp_path: Path) -> None:
    """Blocked was told, and the process died before it could write it down: unknown, void, nobody is logged in."""
    async with running(database, tmp_path / "other") as other:
        async with process("hook", database.url("preauth"), tmp_path) as killed:
            await other.done(ArmPairing(charge_box_id=CP, purpose="find_card"))
            # What records a scan counts its subject up; deciding does not.
            async with locked(database, b"preauth.subject_version"):
                assert await killed.tap(other.body("04A1", CP)) == "BLOCKED"
                await killed.kill()
        assert other.rows("SELECT state FROM pairing") == [{"state": "matched"}]
        other.clock.ahead += timedelta(seconds=5)
        other.healthy_for(5)
        await other.until("SELECT 1 FROM pairing WHERE state = 'void'")
        assert other.rows("SELECT told FROM tap WHERE id_tag = '04A1'") == [{"told": "unknown"}]
        assert other.events("scan.intercepted") == []
        assert await other.tap("04A1", CP) is None


async def test_killed_between_a_charger_and_its_record(database: TestDatabase, tmp_path: Path) -> None:
    """The gateway told a charger Blocked, and died: unknown, void, nobody is logged in; the next one lets charge."""
    async with run_steve(SteveSettings(auth_delay_ms=0)) as steve, running(database, tmp_path / "other") as other:
        steve.state.add_charger(CP)
        steve.state.add_tag("04A1")
        await other.done(ArmPairing(charge_box_id=CP, purpose="find_card"))
        url, served = database.url("preauth"), "gateway,work"
        async with process(served, url, tmp_path, STEVE_OCPP_URL=steve.ocpp_url) as killed:
            settings = ChargerSettings(ocpp_url=killed.ocpp_url, charge_box_id=CP, reconnect=False)
            async with Charger(settings) as charger, locked(database, b"preauth.subject_version"):
                assert (await charger.authorize("04A1"))[0] == "Blocked"
                await killed.kill()
        assert other.rows("SELECT state FROM pairing") == [{"state": "matched"}]
        other.clock.ahead += timedelta(seconds=5)
        other.healthy_for(5)
        await other.until("SELECT 1 FROM pairing WHERE state = 'void'")
        assert other.rows("SELECT told FROM tap WHERE id_tag = '04A1'") == [{"told": "unknown"}]
        assert other.events("scan.intercepted") == []
        async with process(served, url, tmp_path, STEVE_OCPP_URL=steve.ocpp_url) as again:
            settings = ChargerSettings(ocpp_url=again.ocpp_url, charge_box_id=CP, reconnect=False)
            async with Charger(settings) as charger:
                assert (await charger.tap(1, "04A1")).charging


async def test_killed_with_a_full_spool(database: TestDatabase, tmp_path: Path) -> None:
    """Taps that passed while the database was away survive the process: the next one writes them down."""
    async with (
        running(database, tmp_path / "other") as other,
        process("hook", database.url("preauth"), tmp_path) as killed,
    ):
        with refusing(database):
            bodies = [other.body(f"04A{n}", CP) for n in range(5)]
            assert [await killed.tap(body) for body in bodies] == [None] * 5
            await killed.kill()
    async with running(database, tmp_path) as after:
        scanned = "SELECT 1 FROM tap WHERE id_tag LIKE '04A%%' AND told = 'passed' HAVING count(*) = 5"
        await after.until(scanned, within_s=15)
