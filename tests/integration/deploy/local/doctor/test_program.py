"""`expressync doctor` as a program, beside a stack that really runs. `tests/e2e` has it beside a demo."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.demo.lago import LagoSettings, run_lago
from deploy.demo.steve.settings import SteveSettings
from deploy.demo.steve.simulator import run_steve
from deploy.local.doctor.result import WHAT
from deploy.local.infra.server import Server
from tests.commands import command
from tests.integration.deploy.local.doctor.test_lago import seed
from tests.ports import free_port

# Recognisable wherever they appear.
STEVE_PASSWORD, LAGO_KEY, HOOK_KEY, WEBHOOK_KEY = (
    f"recognisable-{name}-0123456789abcdef" for name in ("steve", "lago", "hook", "webhook")
)
UP_S = 90


@dataclass
class Run:
    """A finished doctor."""

    code: int
    output: str
    errors: str

    @property
    def answers(self) -> dict[str, str]:
        return {one["id"]: one["answer"] for one in json.loads(self.output)}

    def why(self, check: str) -> str:
        return next(str(one["why"]) for one in json.loads(self.output) if one["id"] == check)


@dataclass
class Machine:
    """A folder to run programs in, with a private home and nothing of this process's environment."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder), "EXPRESSYNC_HOME": str(self.folder / "home")}

    def write_env(self, settings: Mapping[str, str]) -> None:
        lines = [f"{name}={value}\n" for name, value in settings.items()]
        (self.folder / ".env").write_text("".join(lines))

    async def doctor(self, *arguments: str) -> Run:
        process = await command("deploy.local.cli", "doctor", *arguments, cwd=self.folder, env=self.environment)
        output, errors = await process.communicate()
        return Run(process.returncode or 0, output.decode(), errors.decode())

    @asynccontextmanager
    async def up(self) -> AsyncIterator[None]:
        """Run the launcher until it says that it is up, and end it with SIGTERM afterwards."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "deploy.local.cli", "up"),
            cwd=self.folder,
            env=self.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        assert process.stdout is not None
        said = ""
        try:
            async with asyncio.timeout(UP_S):
                while "Up." not in said:
                    line = await process.stdout.readline()
                    assert line, said
                    said += line.decode()
            yield
        finally:
            if process.returncode is None:
                process.terminate()
            async with asyncio.timeout(UP_S):
                await process.communicate()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
async def settings(servers: Callable[[str], Server]) -> AsyncIterator[dict[str, str]]:
    """Settings with which all is well, and the SteVe, Lago and broker that they name."""
    steve_settings = SteveSettings(user="api", password=STEVE_PASSWORD, auth_delay_ms=0)
    lago_settings = LagoSettings(api_key=LAGO_KEY, seed=seed())
    broker = servers("rabbitmq").url
    async with run_steve(steve_settings) as steve, run_lago(lago_settings) as lago:
        yield {
            "EXPRESSYNC_AMQP_URL": broker,
            "EXPRESSYNC_PREAUTH_HOOK_KEYS": HOOK_KEY,
            "EXPRESSYNC_SYNC_STEVE_ID": "main",
            "EXPRESSYNC_SYNC_STEVE_URL": steve.rest_url,
            "EXPRESSYNC_SYNC_STEVE_USER": "api",
            "EXPRESSYNC_SYNC_STEVE_PASSWORD": STEVE_PASSWORD,
            "EXPRESSYNC_SYNC_STEVE_VERSION": "3.15",
            "EXPRESSYNC_SYNC_LAGO_URL": lago.url,
            "EXPRESSYNC_SYNC_LAGO_API_KEY": LAGO_KEY,
            "EXPRESSYNC_SYNC_LAGO_WEBHOOK_KEY": WEBHOOK_KEY,
        }


def ports() -> dict[str, str]:
    public = {f"EXPRESSYNC_{name}_PORT": str(free_port()) for name in ("PREAUTH", "SYNC", "ADMIN_API")}
    private = {f"EXPRESSYNC_{name}_OPS_PORT": str(free_port()) for name in ("PREAUTH", "SYNC", "ADMIN_API", "AUDIT")}
    return {**public, **private}


def assert_no_secret(run: Run, machine: Machine, settings: Mapping[str, str]) -> None:
    """Neither the operator's secrets nor the generated ones are anywhere in what was said."""
    said = run.output + run.errors
    secrets = [STEVE_PASSWORD, LAGO_KEY, HOOK_KEY, WEBHOOK_KEY]
    found = re.search(r"//[^:]+:([^@]+)@", settings.get("EXPRESSYNC_AMQP_URL", ""))
    secrets += [found[1]] if found else []
    for file in (machine.folder / "home").rglob("secrets.json"):
        secrets += json.loads(file.read_text()).values()
    secrets += [file.read_text() for file in (machine.folder / "home").rglob("password")]
    assert len(secrets) >= 5
    assert [secret for secret in secrets if secret in said] == []


async def test_a_stack_that_runs_is_examined_before_and_after_something_is_broken(
    machine: Machine, settings: dict[str, str]
) -> None:
    """All is fine and the exit code 0; each thing that is then broken is found; stopped, it is told to start."""
    settings |= ports()
    machine.write_env(settings)
    async with machine.up():
        fine, plain = await asyncio.gather(machine.doctor("--json"), machine.doctor())
        assert fine.answers == dict.fromkeys(WHAT, "yes"), fine.output
        assert fine.code == 0
        assert "the private one" in fine.why("database.reachable")
        assert plain.code == 0
        assert plain.output.splitlines()[-1] == f"All {len(WHAT)} checks are fine."
        for run in (fine, plain):
            assert_no_secret(run, machine, settings)

        machine.write_env(
            {
                **settings,
                "EXPRESSYNC_SYNC_STEVE_PASSWORD": HOOK_KEY,
                "EXPRESSYNC_SYNC_METRIC_CODE": "other",
                "EXPRESSYNC_PREAUTH_HOOK_KEYS": "recognisable-short",
                "EXPRESSYNC_PREAUTH_QR_IS_STRONG": "true",
                "EXPRESSYNC_AMPQ_URL": LAGO_KEY,
                "EXPRESSYNC_AUDIT_OPS_PORT": WEBHOOK_KEY,
            }
        )
        broken = await machine.doctor("--json")
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
        assert_no_secret(broken, machine, settings)

    machine.write_env(settings)
    stopped = await machine.doctor("--json")
    assert stopped.code == 1
    assert stopped.why("database.reachable") == "The private PostgreSQL is not running."
    assert {stopped.answers[f"services.{name}"] for name in ("preauth", "sync", "audit", "admin_api")} == {"no"}
    assert stopped.answers["steve.authorised"] == "yes"


async def test_nothing_set_up_is_a_finding_with_a_way_to_begin(machine: Machine) -> None:
    """On a machine where nothing was done yet, the first line says how to begin, and nothing is made."""
    run = await machine.doctor("--json")
    assert run.code == 1
    first = json.loads(run.output)[0]
    assert (first["id"], first["answer"]) == ("settings.source", "no")
    assert "Copy .env.example to .env" in first["remedy"]
    assert [set(one) for one in json.loads(run.output)] == [{"id", "answer", "what", "why", "remedy"}] * len(WHAT)
    assert list(machine.folder.iterdir()) == []


async def test_what_cannot_be_asked_about_ends_with_3(machine: Machine) -> None:
    """A settings file that is not there is an error in three lines, or one object, and no finding."""
    named = ("--env-file", "nowhere.env")
    run, as_json = await asyncio.gather(machine.doctor(*named), machine.doctor(*named, "--json"))
    assert run.code == 3
    assert run.errors.splitlines()[0] == "There is no nowhere.env."
    assert len(run.errors.splitlines()) == 3
    assert as_json.code == 3
    assert set(json.loads(as_json.output)) == {"error", "why", "remedy"}
