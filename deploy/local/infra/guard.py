"""Runs programs so that none of them outlives whoever asked for them.

This file is a program of its own (standard library only, Linux), started by `guarded.py`. It reads one JSON
line from its standard input, starts the commands in order, answers with one JSON line, and then waits for
the first of: a line or the end of its standard input (the asker wants it to end, or is dead, however it died), a
signal, or the exit of the last command (the main one). Then it ends everything below it.

Two nets, because either alone has a hole: a pipe notices the asker's death but not the guard's own, and the
kernel's parent-death signal notices the death of one *thread*, which in an asker with a thread pool comes too early.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import sys
import time
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
CLONE_NEWUSER = 0x10000000
READY_POLL_S = 0.02
CLEANUP_S = 30

_libc = ctypes.CDLL(None, use_errno=True)


def enter_user_namespace(uid: int, gid: int) -> None:
    """Become `uid`/`gid` inside a new user namespace; outside, and for files, nothing changes.

    Raises OSError where the kernel or a container's profile forbids it (user_namespaces(7)).
    """
    outer_uid, outer_gid = os.geteuid(), os.getegid()
    if _libc.unshare(CLONE_NEWUSER) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    for name, line in (
        ("uid_map", f"{uid} {outer_uid} 1"),
        ("setgroups", "deny"),
        ("gid_map", f"{gid} {outer_gid} 1"),
    ):
        # One write each: the kernel takes these files whole or not at all. And nothing is imported on the way (a
        # codec, say): inside, the rights that made Python's own files readable may be gone.
        file = os.open(f"/proc/self/{name}", os.O_WRONLY)
        os.write(file, line.encode())
        os.close(file)


def descendants(root: int) -> list[int]:
    """Every process below `root`, parents before children."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - pathlib costs start-up time
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123 - as above
                stat = file.read()
        except OSError:
            continue
        # The command may hold spaces and parentheses: fields count from the last parenthesis.
        parent = int(stat[stat.rindex(b")") + 2 :].split()[1])
        children.setdefault(parent, []).append(int(name))
    found: list[int] = []
    queue = [root]
    while queue:
        below = children.get(queue.pop(0), [])
        found += below
        queue += below
    return found


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _exec(command: dict[str, Any], guard_pid: int) -> None:
    """In the child: become the command. Returns only by raising."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    log = os.open(command["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if command.get("namespace"):
        enter_user_namespace(*command["namespace"])
    # After the change of identity, which clears it.
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != guard_pid:
        os._exit(127)
    os.chdir(command["cwd"])
    os.execve(command["argv"][0], command["argv"], command["env"])  # noqa: S606 - no shell is meant


def spawn(command: dict[str, Any]) -> int:
    guard_pid = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        _exec(command, guard_pid)
    except OSError as error:
        os.write(2, f"cannot run {command['argv'][0]}: {error}\n".encode())
    finally:
        os._exit(127)


def reap(main: int, statuses: dict[int, int]) -> bool:
    """Collect what has ended, also orphans that fell to the guard. True while `main` lives."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if pid == 0:
            break
        statuses[pid] = os.waitstatus_to_exitcode(status)
    return main not in statuses


def wait_for_port(port: int, deadline: float) -> None:
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(READY_POLL_S)


def end(main: int, spec: dict[str, Any], statuses: dict[int, int], wakeup: int) -> None:
    """Ask the main command to stop, wait `grace_s`, then kill whatever is left below the guard."""
    me = os.getpid()
    if reap(main, statuses):
        _send(main, spec["stop_signal"])
        # A frozen process cannot obey: let all of them run.
        for pid in descendants(me):
            _send(pid, signal.SIGCONT)
        deadline = time.monotonic() + spec["grace_s"]
        while reap(main, statuses) and (left := deadline - time.monotonic()) > 0:
            # The wake-up pipe may hold old bytes; they only cost an extra round.
            select.select([wakeup], [], [], min(left, 0.2))
            with contextlib.suppress(BlockingIOError):
                os.read(wakeup, 512)
    clear(main, statuses)
    if spec.get("cleanup"):
        # What the commands left outside this tree: a container outlives its client.
        helper = spawn(spec["cleanup"])
        deadline = time.monotonic() + CLEANUP_S
        while reap(helper, statuses) and time.monotonic() < deadline:
            time.sleep(READY_POLL_S)
        clear(main, statuses)


def clear(main: int, statuses: dict[int, int]) -> None:
    while below := descendants(os.getpid()):
        for pid in below:
            _send(pid, signal.SIGKILL)
        reap(main, statuses)
        time.sleep(READY_POLL_S)


def main() -> int:
    line = bytearray()
    while not line.endswith(b"\n"):
        got = os.read(0, 1)
        if not got:
            return 0
        line += got
    spec = json.loads(line)
    for fd in spec["keep_fds"]:
        # Held by the guard alone: a lock on the folder lasts exactly as long as the guard does.
        os.set_inheritable(fd, False)
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    wakeup, wakeup_write = os.pipe()
    os.set_blocking(wakeup, False)
    os.set_blocking(wakeup_write, False)
    signal.set_wakeup_fd(wakeup_write, warn_on_full_buffer=False)
    asked = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: asked.append(number))
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    statuses: dict[int, int] = {}
    pids = []
    for command in spec["commands"]:
        pids.append(spawn(command))
        if command.get("ready_port"):
            wait_for_port(command["ready_port"], time.monotonic() + 10)
    last = pids[-1]
    os.write(1, json.dumps({"pids": pids}).encode() + b"\n")
    while reap(last, statuses) and not asked:
        readable, _, _ = select.select([0, wakeup], [], [])
        if 0 in readable:
            break
        with contextlib.suppress(BlockingIOError):
            os.read(wakeup, 512)
    end(last, spec, statuses, wakeup)
    code = statuses.get(last, 0)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
