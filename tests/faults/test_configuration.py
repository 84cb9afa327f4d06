"""Bad configuration, as a process meets it: exit code 2, the variable by its name, and no secret on the screen."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.local.home import root
from deploy.local.processes import BAD_CONFIGURATION
from tests.commands import command
from tests.faults.processes import service_settings

SECRET = "hunter2-do-not-show"
GOOD_DATABASE = f"postgresql://someone:{SECRET}@127.0.0.1:9/nowhere"
GOOD_BROKER = f"amqp://someone:{SECRET}@127.0.0.1:9/"
SERVICES = ["preauth", "sync", "audit", "admin_api"]


def good(service: str, folder: Path) -> dict[str, str]:
    prefix = f"EXPRESSYNC_{service.upper()}"
    return {
        "PATH": os.environ["PATH"],
        "EXPRESSYNC_AMQP_URL": GOOD_BROKER,
        f"{prefix}_DATABASE_URL": GOOD_DATABASE,
        f"{prefix}_PORT": "0",
        f"{prefix}_OPS_PORT": "0",
        **{f"{prefix}_{name}": value for name, value in service_settings(service, folder).items()},
    }


@dataclass
class Done:
    code: int | None
    out: str
    err: str


async def run(service: str, environment: Mapping[str, str]) -> Done:
    process = await command(f"services.{service}", env=environment, cwd=root())
    out, err = await process.communicate()
    return Done(process.returncode, out.decode(), err.decode())


def check_refusal(done: Done, *named: str) -> None:
    said = done.out + done.err
    assert done.code == BAD_CONFIGURATION, said
    assert [name for name in named if name not in done.err] == [], said
    assert "Traceback" not in said
    assert SECRET not in said


@pytest.mark.parametrize("service", SERVICES)
async def test_all_that_is_missing_or_wrong_is_named_at_once(service: str, tmp_path: Path) -> None:
    """One start names every variable that is not set, is no number, or is no setting at all."""
    prefix = f"EXPRESSYNC_{service.upper()}"
    environment = good(service, tmp_path)
    del environment["EXPRESSYNC_AMQP_URL"], environment[f"{prefix}_DATABASE_URL"]
    environment[f"{prefix}_OPS_PORT"] = SECRET
    environment[f"{prefix}_DATABASE_UR"] = GOOD_DATABASE
    check_refusal(
        await run(service, environment),
        f"{prefix}_DATABASE_URL is not set",
        "EXPRESSYNC_AMQP_URL is not set",
        f"{prefix}_OPS_PORT",
        f"{prefix}_DATABASE_UR is not a setting; did you mean {prefix}_DATABASE_URL?",
        "Set it in the environment or in .env",
    )


@pytest.mark.parametrize(
    ("service", "wrong"),
    [
        ("audit", {"AUDIT_DATABASE_URL": SECRET, "AMQP_URL": SECRET, "AUDIT_PORT": "8080"}),
        (
            "audit",
            {"AUDIT_DATABASE_URL": f"mysql://a:{SECRET}@127.0.0.1/b", "AMQP_URL": f"http://a:{SECRET}@127.0.0.1/"},
        ),
        ("preauth", {"PREAUTH_HOOK_KEYS": f"whsec_{SECRET}", "PREAUTH_HOOK_KEY": SECRET}),
        ("preauth", {"PREAUTH_DECIDE_WITHIN_MS": "99999", "LOG_LEVEL": SECRET, "STOP_GRACE_S": "0"}),
        ("sync", {"SYNC_LAGO_API_KEY": f"{SECRET}\n", "SYNC_STEVE_API_KEY": f"{SECRET}é"}),
        ("sync", {"SYNC_LAGO_URL": f"lago.example.com/{SECRET}", "SYNC_STEVE_ID": "a b"}),
    ],
)
async def test_a_wrong_value_is_refused_by_the_name_of_its_variable(
    service: str, wrong: Mapping[str, str], tmp_path: Path
) -> None:
    """The process ends with 2 and says which variables are wrong, without repeating values that may be secrets."""
    given = {f"EXPRESSYNC_{name}": value for name, value in wrong.items()}
    check_refusal(await run(service, {**good(service, tmp_path), **given}), *given)


async def test_a_port_that_is_taken_is_a_clear_error(tmp_path: Path) -> None:
    """Who comes second ends with 2, and says which address is taken and which variable chooses another."""
    with socket.create_server(("127.0.0.1", 0)) as first:
        port = first.getsockname()[1]
        done = await run("audit", {**good("audit", tmp_path), "EXPRESSYNC_AUDIT_OPS_PORT": str(port)})
    check_refusal(done, "EXPRESSYNC_AUDIT_OPS_PORT", f"127.0.0.1:{port} is taken")


async def test_one_port_for_two_servers_is_a_clear_error(tmp_path: Path) -> None:
    """A service that is given one port for both of its servers ends with 2, and names the one that came second."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    environment = good("preauth", tmp_path)
    environment |= {"EXPRESSYNC_PREAUTH_PORT": port, "EXPRESSYNC_PREAUTH_OPS_PORT": port}
    check_refusal(await run("preauth", environment), "EXPRESSYNC_PREAUTH_PORT")
