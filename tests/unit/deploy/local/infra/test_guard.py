import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from deploy.local.infra import guard
from deploy.local.infra.errors import InfraError
from deploy.local.infra.folder import Folder
from deploy.local.infra.guarded import GUARD, Command, Guarded, wait_until


def command(tmp_path: Path, script: str) -> Command:
    """A Python script that says in a file `up` when it is ready."""
    prelude = f"import os, signal, subprocess, sys, time\nup = lambda: open({str(tmp_path / 'up')!r}, 'w').write('1')\n"
    argv = [sys.executable, "-I", "-S", "-c", prelude + script]
    return Command(argv, {"PATH": os.defpath}, tmp_path / "log", tmp_path)


def started(tmp_path: Path, script: str, *, grace_s: float = 5, keep_fds: tuple[int, ...] = ()) -> Guarded:
    server = Guarded([command(tmp_path, script)], grace_s=grace_s, keep_fds=keep_fds)
    server.wait_ready((tmp_path / "up").exists, 10, "the script")
    return server


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_stop_is_graceful_and_gives_the_exit_code(tmp_path: Path) -> None:
    """A program that obeys the stop signal ends in its own way, and its exit code is told."""
    script = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(3)); up()\nwhile True: time.sleep(1)"
    server = started(tmp_path, script)
    assert server.alive
    assert server.stop() == 3
    assert not server.alive


def test_a_stubborn_program_is_killed_after_its_grace(tmp_path: Path) -> None:
    """A program that ignores the stop signal has its grace period and not more."""
    script = "signal.signal(signal.SIGTERM, signal.SIG_IGN); up()\nwhile True: time.sleep(1)"
    server = started(tmp_path, script, grace_s=0.5)
    before = time.monotonic()
    assert server.stop() == 128 + signal.SIGKILL
    assert 0.4 < time.monotonic() - before < 5
    assert gone(server.pid)


def test_a_frozen_program_can_be_stopped(tmp_path: Path) -> None:
    """Stop reaches a frozen program: it is let run to obey."""
    server = started(tmp_path, "up()\nwhile True: time.sleep(1)")
    server.freeze()
    wait_until(lambda: psutil.Process(server.pid).status() == psutil.STATUS_STOPPED, 5, "it to freeze")
    assert server.stop() == 128 + signal.SIGTERM


def test_what_a_program_left_behind_is_ended_too(tmp_path: Path) -> None:
    """A daemon that left the program's session and lost its parent still ends with stop."""
    script = (
        'inner = \'import os, time; os.setsid(); open("daemon", "w").write(str(os.getpid())); time.sleep(600)\'\n'
        "middle = f'import subprocess, sys; subprocess.Popen([sys.executable, \"-c\", {inner!r}])'\n"
        "subprocess.run([sys.executable, '-c', middle], check=True)\n"
        "while not os.path.exists('daemon') or not open('daemon').read(): time.sleep(0.02)\n"
        "up()\n"
        "while True: time.sleep(1)"
    )
    server = started(tmp_path, script)
    daemon = int((tmp_path / "daemon").read_text())
    assert psutil.Process(daemon).ppid() == server.guard_pid
    server.stop()
    assert gone(daemon)


def test_the_end_of_the_program_ends_everything(tmp_path: Path) -> None:
    """When the main program dies by itself, its companions and the guard follow at once."""
    companion = Command(["/bin/sleep", "600"], {}, tmp_path / "log", tmp_path)
    main = command(tmp_path, "up()\nwhile True: time.sleep(1)")
    server = Guarded([companion, main])
    server.wait_ready((tmp_path / "up").exists, 10, "the script")
    below = psutil.Process(server.guard_pid).children()
    assert len(below) == 2
    os.kill(server.pid, signal.SIGKILL)
    wait_until(lambda: not server.alive, 5, "the guard to end")
    assert all(gone(process.pid) for process in below)
    server.stop()


ASKER = """
import sys, time
from pathlib import Path
from deploy.local.infra.guarded import Command, Guarded
folder = Path(sys.argv[1])
server = Guarded([Command(["/bin/sleep", "600"], {}, folder / "log", folder)])
(folder / "pids").write_text(f"{server.guard_pid} {server.pid}")
time.sleep(600)
"""


def test_nothing_outlives_an_asker_that_is_killed(tmp_path: Path) -> None:
    """SIGKILL of the process that started a server ends the server and its guard."""
    root = Path(__file__).parents[5]
    with subprocess.Popen([sys.executable, "-c", ASKER, str(tmp_path)], cwd=root) as asker:
        wait_until(lambda: (tmp_path / "pids").exists() and len((tmp_path / "pids").read_text().split()) == 2, 10, "it")
        pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
        assert not any(gone(pid) for pid in pids)
        asker.kill()
    wait_until(lambda: all(gone(pid) for pid in pids), 5, "the server and its guard to end")


def test_nothing_outlives_a_guard_that_is_killed(tmp_path: Path) -> None:
    """SIGKILL of the guard itself ends the program: the kernel sees to it."""
    server = started(tmp_path, "up()\nwhile True: time.sleep(1)")
    os.kill(server.guard_pid, signal.SIGKILL)
    wait_until(lambda: gone(server.pid), 5, "the program to end")
    server.stop()


def test_the_lock_of_a_folder_lasts_as_long_as_its_guard(tmp_path: Path) -> None:
    """While the server runs its folder is locked, also when the asker's own handle is gone; after it, it is free."""
    folder = Folder(tmp_path / "server")
    server = started(tmp_path, "up()\nwhile True: time.sleep(1)", keep_fds=(folder.lock("it"),))
    folder.unlock()
    assert folder.locked
    server.stop()
    assert not folder.locked


def test_a_program_that_cannot_be_run_is_reported_with_its_log(tmp_path: Path) -> None:
    """A missing program is an error that names it and what the system said."""
    server = Guarded([Command(["/nonexistent/postgres"], {}, tmp_path / "log", tmp_path)])
    with pytest.raises(InfraError, match=r"cannot run /nonexistent/postgres: .*No such file"):
        server.wait_ready(lambda: False, 5, "PostgreSQL")


def test_a_program_that_is_never_ready_is_stopped(tmp_path: Path) -> None:
    """One that runs and never becomes ready is ended and reported, with the time it had."""
    server = Guarded([command(tmp_path, "while True: time.sleep(1)")])
    with pytest.raises(InfraError, match=r"Waited 0\.2 s"):
        server.wait_ready(lambda: False, 0.2, "PostgreSQL")
    assert gone(server.pid)


def test_the_clean_up_runs_also_after_a_kill(tmp_path: Path) -> None:
    """What the program leaves elsewhere is removed by the clean-up command, however the program ended."""
    script = command(tmp_path, "up()\nwhile True: time.sleep(1)")
    clean = Command(["/bin/sh", "-c", "echo done > cleaned"], {"PATH": os.defpath}, tmp_path / "log", tmp_path)
    server = Guarded([script], cleanup=clean)
    server.wait_ready((tmp_path / "up").exists, 10, "the script")
    server.kill()
    assert (tmp_path / "cleaned").read_text() == "done\n"


def test_an_asker_that_dies_before_asking_leaves_nothing(tmp_path: Path) -> None:
    """A guard whose standard input ends before the request ends too."""
    done = subprocess.run([sys.executable, "-I", "-S", str(GUARD)], stdin=subprocess.DEVNULL, timeout=10, check=False)
    assert done.returncode == 0


def test_descendants_survive_odd_process_names(tmp_path: Path) -> None:
    """A process whose name has spaces and parentheses is found below its parent."""
    odd = tmp_path / "a) S 1 (b"
    odd.symlink_to("/bin/sleep")
    with subprocess.Popen([str(odd), "600"]) as process:
        assert process.pid in guard.descendants(os.getpid())
        process.kill()
