"""`expressync up`, and `expressync doctor` beside it."""

import asyncio
import json
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import httpx
import psutil

from deploy.demo.lago import LagoSettings, run_lago
from deploy.demo.steve.settings import SteveSettings
from deploy.demo.steve.simulator import run_steve
from deploy.local.doctor.result import WHAT
from deploy.local.infra.postgres import Postgres
from tests.e2e.launched import Launched, environment, nothing_left, processes_of, run, run_json
from tests.integration.deploy.local.doctor.program import Run, doctor
from tests.integration.deploy.local.doctor.test_lago import seed
from tests.ports import free_port
from tests.waiting import until

PORTS: Final = (
    "PREAUTH_PORT",
    "PREAUTH_OPS_PORT",
    "SYNC_PORT",
    "SYNC_OPS_PORT",
    "ADMIN_API_PORT",
    "ADMIN_API_OPS_PORT",
    "AUDIT_OPS_PORT",
)
CHOSEN: Final = "a password of their own"
# Recognisable wherever they appear.
STEVE_PASSWORD, LAGO_KEY, HOOK_KEY, WEBHOOK_KEY, DATABASE_PASSWORD = SECRETS = [
    f"recognisable-{name}-0123456789abcdef" for name in ("steve", "lago", "hook", "webhook", "database")
]
BROKEN: Final = {
    "SYNC_STEVE_PASSWORD": HOOK_KEY,
    "SYNC_METRIC_CODE": "other",
    "PREAUTH_HOOK_KEYS": "recognisable-short",
    "PREAUTH_QR_IS_STRONG": "true",
    "AMPQ_URL": LAGO_KEY,
    "AUDIT_OPS_PORT": WEBHOOK_KEY,
}


@dataclass
class Installation:
    """`settings`: those of its .env, without their prefix."""

    folder: Path
    settings: Mapping[str, object]

    @property
    def env_file(self) -> Path:
        return self.folder / "settings.env"

    def write(self, **more: object) -> None:
        settings = {**self.settings, **more}
        self.env_file.write_text("".join(f"EXPRESSYNC_{name}={value}\n" for name, value in settings.items()))

    async def doctor(self, *arguments: str) -> Run:
        """What it says, in which no secret is, of those that were given and those that were made."""
        named = ("--env-file", str(self.env_file))
        found = await doctor(self.folder, environment(self.folder), *arguments, *named)
        made = [file.read_text() for file in (self.folder / "live").glob("*/password")]
        made += json.loads((self.folder / "live/secrets.json").read_text()).values()
        assert len(made) >= 3
        said = found.output + found.errors
        assert [secret for secret in [*SECRETS, *made] if secret in said] == []
        return found


async def test_up_serves_a_steve_and_a_lago_from_a_dotenv(folder: Path) -> None:
    """`up` reads .env, brings back what falls, keeps its data over a restart, and `down` stops it from elsewhere. What
    ends it, and be it SIGKILL, takes along all that it started. The doctor finds all fine, each thing that is then
    broken, and that it is stopped.
    """
    # SteVe and Lago are in this loop: whatever waits here does so elsewhere, or the services wait for them meanwhile.
    postgres = Postgres(folder / "live" / "postgres")
    # Once, so that its address can be given.
    postgres.start()
    postgres.stop()
    steve_settings = SteveSettings(user="api", password=STEVE_PASSWORD, auth_delay_ms=0)
    lago_settings = LagoSettings(api_key=LAGO_KEY, seed=seed())
    async with run_steve(steve_settings) as steve, run_lago(lago_settings) as lago:
        steve.state.add_tag("04E2E", limit=1)
        settings = {
            "SYNC_STEVE_ID": "home",
            "SYNC_STEVE_URL": steve.rest_url,
            "SYNC_STEVE_USER": "api",
            "SYNC_STEVE_PASSWORD": STEVE_PASSWORD,
            "SYNC_STEVE_VERSION": "3.15",
            "SYNC_LAGO_URL": lago.url,
            "SYNC_LAGO_API_KEY": LAGO_KEY,
            "SYNC_LAGO_WEBHOOK_KEY": WEBHOOK_KEY,
            "PREAUTH_HOOK_KEYS": HOOK_KEY,
            "SYNC_DATABASE_URL": f"postgresql://biller:{DATABASE_PASSWORD}@127.0.0.1:{postgres.port}/postgres",
            **{name: free_port() for name in PORTS},
        }
        installation = Installation(folder, settings)
        installation.write()
        for start in (1, 2):
            up = Launched(folder, "up", "--env-file", str(installation.env_file))
            try:
                console = (await asyncio.to_thread(up.wait_for, "Console: ")).removeprefix("Console: ")
                await asyncio.to_thread(up.wait_for, "Up. Ctrl-C stops everything.")
                if start == 1:
                    one_time = up.said("one-time password").rpartition(" ")[2]
                    await asyncio.to_thread(_kill_servers, folder, up)
                    await _sign_in(console, one_time, new_password=CHOSEN)
                    await _is_examined(installation)
                assert any("one-time password" in line for line in up.lines) == (start == 1)
                await _sign_in(console, CHOSEN)
                if start == 1:
                    code, stopped = await asyncio.to_thread(run_json, folder, "down", "--keep")
                    assert (code, stopped) == (0, {"stopped": ["live"], "deleted": [], "kept": []})
                    assert await asyncio.to_thread(up.wait) == 0
                else:
                    second = await asyncio.to_thread(run, folder, "up", "--env-file", str(installation.env_file))
                    assert (second.returncode, "already up" in second.stderr) == (3, True)
                    up.signal(signal.SIGKILL)
                    await asyncio.to_thread(up.wait)
            finally:
                up.close()
            await nothing_left(folder)
            if start == 1:
                await _is_stopped(installation)
    code, stopped = run_json(folder, "down", "--yes")
    assert (code, stopped["stopped"], str(folder / "live") in stopped["deleted"]) == (0, [], True)
    assert not (folder / "live").exists()


async def _is_examined(installation: Installation) -> None:
    fine, plain = await asyncio.gather(installation.doctor("--json"), installation.doctor())
    assert (fine.code, fine.answers) == (0, dict.fromkeys(WHAT, "yes")), fine.output
    assert "the private one" in fine.why("database.reachable")
    assert (plain.code, plain.output.splitlines()[-1]) == (0, f"All {len(WHAT)} checks are fine.")

    installation.write(**BROKEN)
    broken = await installation.doctor("--json")
    installation.write()
    assert broken.code == 1
    assert {name for name, answer in broken.answers.items() if answer == "no"} == {
        "settings.names",
        "settings.audit",
        "settings.applied",
        "steve.authorised",
        "lago.metric",
        "lago.charge",
        "hook.keys",
        "presence.qr",
    }
    assert "EXPRESSYNC_SYNC_STEVE_PASSWORD" in broken.why("settings.applied")
    assert "EXPRESSYNC_AUDIT_OPS_PORT" in broken.why("settings.audit")
    assert "recognisable-short" not in broken.output


async def _is_stopped(installation: Installation) -> None:
    stopped = await installation.doctor("--json")
    assert stopped.code == 1
    assert stopped.why("database.reachable") == "The private PostgreSQL is not running."
    assert {stopped.answers[f"services.{name}"] for name in ("preauth", "sync", "audit", "admin_api")} == {"no"}
    assert stopped.answers["steve.authorised"] == "yes"


def _kill_servers(folder: Path, up: Launched) -> None:
    """As the kernel does where memory runs out."""
    names = {"postgres": "PostgreSQL", "beam.smp": "RabbitMQ"}
    for process in psutil.process_iter(["name", "cmdline"]):
        if process.info["name"] in names and str(folder / "live") in " ".join(process.info["cmdline"] or ()):
            process.kill()
    for name in names.values():
        up.wait_for(f"{name} ended and was started again.")


async def _sign_in(console: str, password: str, **more: str) -> None:
    """Sign in at the console's API, and find it in the audit log: database, broker and services work together."""
    async with httpx.AsyncClient(base_url=f"{console}api/v1", timeout=10) as client:
        before = datetime.now(UTC).isoformat()

        async def token() -> str | None:
            answer = await client.post("/session", json={"name": "admin", "password": password, **more})
            return str(answer.json()["token"]) if answer.status_code == 201 else None

        client.headers["Authorization"] = f"Bearer {await until(token, every_s=0.5)}"

        async def recorded() -> bool:
            params = {"type": "operator.signed_in", "since": before}
            answer = await client.get("/audit/entries", params=params)
            return answer.status_code == 200 and bool(answer.json()["items"])

        assert await until(recorded, within_s=60)


def test_up_names_what_is_missing(folder: Path) -> None:
    """Without settings, nothing keeps running and every missing variable is named."""
    done = run(folder, "up")
    assert done.returncode == 3
    assert "EXPRESSYNC_SYNC_STEVE_ID is not set" in done.stderr
    assert ".env.example" in done.stderr
    assert not processes_of(folder)
