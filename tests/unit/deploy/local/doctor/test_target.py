import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deploy.local.doctor import place
from deploy.local.doctor.result import Result
from deploy.local.doctor.settings import ask as settings
from deploy.local.doctor.target import Target, find_target
from deploy.local.home import Home
from deploy.local.infra.errors import InfraError

SPOOL = "settings.spool"

# A launcher's tree: itself, a guard, and a service with an environment of its own.
LAUNCHER = """
import subprocess, sys
guard = 'import subprocess, sys; subprocess.run([sys.executable, "-c", "input()", "-m", "services.sync"])'
environment = {"EXPRESSYNC_SYNC_STEVE_ID": "stand-in"}
subprocess.run([sys.executable, "-c", guard], env=environment)
"""


@pytest.fixture(autouse=True)
def _nothing_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("EXPRESSYNC_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("EXPRESSYNC_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def demo_runs() -> Iterator[None]:
    """A process that is noted as the demo's launcher, with a stand-in for sync two levels below it."""
    folder = Home.of("demo").folder
    folder.mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-c", LAUNCHER], stdin=subprocess.PIPE) as process:
        born = psutil.Process(process.pid).create_time()
        (folder / "launcher.json").write_text(json.dumps({"pid": process.pid, "born": born}))
        deadline = time.monotonic() + 20
        while len(psutil.Process(process.pid).children(recursive=True)) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield
        process.communicate()


def test_without_settings_and_stack_the_live_installation_is_looked_at() -> None:
    """There is nothing else to look at, and the report will say that it is not set up."""
    target = find_target(Path(".env"))
    assert (target.home.kind, target.env_file, target.launcher_pid, target.up) == ("live", None, None, "expressync up")


@pytest.mark.usefixtures("demo_runs")
def test_a_demo_that_runs_is_looked_at_where_there_is_no_env() -> None:
    """Without .env, a running demo is the target, with the settings that its services were started with."""
    target = find_target(Path(".env"))
    assert (target.home.kind, target.up) == ("demo", "expressync demo")
    assert target.setting("sync", "steve_id") == "stand-in"


@pytest.mark.usefixtures("demo_runs")
def test_an_env_file_wins_over_a_demo_that_runs() -> None:
    """With a .env, the installation it describes is the target, whatever else runs."""
    Path(".env").write_text("EXPRESSYNC_SYNC_STEVE_ID=mine\n")
    target = find_target(Path(".env"))
    assert target.home.kind == "live"
    assert target.setting("sync", "steve_id") == "mine"


@pytest.mark.usefixtures("demo_runs")
def test_settings_in_the_environment_win_over_a_demo_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Someone who sets a service's setting means the installation of these settings."""
    monkeypatch.setenv("EXPRESSYNC_SYNC_STEVE_URL", "http://steve")
    assert find_target(Path(".env")).home.kind == "live"


def test_a_named_file_that_is_not_there_cannot_be_asked_about() -> None:
    """A wrong --env-file is told, instead of looking at something else."""
    with pytest.raises(InfraError, match=r"There is no nope\.env"):
        find_target(Path("nope.env"))


def test_a_file_that_is_no_text_cannot_be_asked_about() -> None:
    """A binary .env is told in three lines."""
    Path(".env").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InfraError, match="not UTF-8"):
        find_target(Path(".env"))


def test_a_setting_is_read_beside_wrong_ones() -> None:
    """One wrong setting does not hide the others: given, default and secret default are told."""
    target = Target(Home.of("live"), None, {"EXPRESSYNC_SYNC_PORT": "x", "EXPRESSYNC_SYNC_LAGO_URL": "http://lago"})
    assert target.setting("sync", "lago_url") == "http://lago"
    assert target.setting("sync", "metric_code") == "ev_charging_kwh"
    assert target.setting("sync", "steve_password") == ""
    assert target.setting("sync", "steve_id") == ""


def test_secrets_are_found_by_name_in_addresses_and_in_the_home() -> None:
    """What must never be said: keys, each of several, passwords in URLs also unquoted, generated ones."""
    home = Home.of("live")
    generated = home.secret("database.sync")
    given = {
        "EXPRESSYNC_PREAUTH_HOOK_KEYS": "first-key, second-key",
        "EXPRESSYNC_AMQP_URL": "amqp://u:p%40ssword@h/",
        "EXPRESSYNC_SYNC_LAGO_API_KEY": "short",
        "EXPRESSYNC_SYNC_STEVE_USER": "steve-user",
    }
    found = Target(home, None, given).secrets()
    assert found == {"first-key, second-key", "first-key", "second-key", "p%40ssword", "p@ssword", generated}


def test_looking_for_the_servers_makes_nothing() -> None:
    """The doctor leaves no folder, port or password behind where nothing was ever started."""
    target = Target(Home.of("live"), None, {})
    assert place.database(target).running is False
    assert place.broker(target).running is False
    assert not target.home.base.exists()


def test_settings_are_loaded_as_the_services_would_and_the_environment_stays() -> None:
    """Missing, wrong and unknown variables are named for each service; this process's environment is as before."""
    before = dict(os.environ)
    given = {
        "EXPRESSYNC_SYNC_STEVE_VERSION": "hunter2-secret",
        "EXPRESSYNC_SYNC_STEVE_ULR": "http://x",
        "EXPRESSYNC_PREAUTH_PORT": "70000",
    }
    found = {one.id: one for one in settings.check(Target(Home.of("live"), None, given))}
    assert dict(os.environ) == before
    assert found["settings.sync"].answer == "no"
    assert "EXPRESSYNC_SYNC_LAGO_URL is not set" in found["settings.sync"].why
    assert "did you mean EXPRESSYNC_SYNC_STEVE_URL?" in found["settings.sync"].why
    assert "hunter2" not in found["settings.sync"].why
    assert "EXPRESSYNC_PREAUTH_PORT" in found["settings.preauth"].why
    assert "70000" not in found["settings.preauth"].why
    assert found["settings.audit"].answer == "yes"


def test_a_spool_folder_that_cannot_be_is_found_before_it_is_needed(tmp_path: Path) -> None:
    """The folder for taps in an outage: it is there, or can be made, or a file is in its way. Nothing is made."""
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")

    def asked(folder: Path | None) -> Result:
        given = {} if folder is None else {"EXPRESSYNC_PREAUTH_SPOOL_DIR": str(folder)}
        return next(one for one in settings.check(Target(Home(tmp_path, "live"), None, given)) if one.id == SPOOL)

    assert [asked(folder).answer for folder in (None, tmp_path, tmp_path / "new" / "spool")] == ["yes"] * 3
    for folder in (in_the_way, in_the_way / "spool"):
        found = asked(folder)
        assert (found.answer, str(folder) in found.why) == ("no", True)
    assert list(tmp_path.iterdir()) == [in_the_way]


def test_lines_of_the_env_file_that_are_left_out_are_named() -> None:
    """A line that is no NAME=value is dropped in silence when the file is read, so the doctor names it."""
    Path(".env").write_text('EXPRESSYNC_SYNC_STEVE_ID=main\nSTEVE URL=http://x\nEXPRESSYNC_LOG_LEVEL="debug\n')
    found = settings.check(find_target(Path(".env")))[0]
    assert (found.id, found.answer) == ("settings.source", "no")
    assert "line 2 and 3" in found.why
