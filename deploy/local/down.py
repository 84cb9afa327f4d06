"""`expressync down`: stop, and leave nothing behind."""

import contextlib
import json
import shutil
import sys
from pathlib import Path
from urllib.parse import urlsplit

from deploy.local.home import Home
from deploy.local.infra.docker import DockerNode
from deploy.local.running import stop
from services.admin_api.cli import config
from services.admin_api.cli.errors import CliError


def run_down(*, yes: bool, keep: bool, as_json: bool = False) -> int:
    """Stop demo and live stack; delete the demo's data, and the live data where that is confirmed.

    As JSON: `{"stopped": [kind], "deleted": [folder], "kept": [folder]}`; it asks nobody.
    """
    demo, live = Home.of("demo"), Home.of("live")
    stopped = [home.kind for home in (demo, live) if stop(home)]
    deleted: list[Path] = []
    kept: list[Path] = []
    if not keep:
        deleted += _forget_login(demo)
        deleted += _delete_home(demo)
        # A ledger of what was billed is not deleted because somebody wanted to stop a program.
        if live.folder.exists() and not (yes or (not as_json and _confirmed(live))):
            kept.append(live.folder)
        else:
            deleted += _forget_login(live)
            deleted += _delete_home(live)
            deleted += _delete(demo.packages)
        if demo.base.exists() and not any(demo.base.iterdir()):
            demo.base.rmdir()
    if as_json:
        print(
            json.dumps({"stopped": stopped, "deleted": [str(one) for one in deleted], "kept": [str(k) for k in kept]})
        )
        return 0
    for kind in stopped:
        print(f"The {kind} stack has stopped.")
    for folder in deleted:
        print(f"Deleted {folder}.")
    for folder in kept:
        print(f"Kept {folder}: links, ledger and audit log of your stack. `expressync down --yes` deletes it.")
    return 0


def _forget_login(home: Home) -> list[Path]:
    """Delete what `expressync login` kept for the console of this stack, which lies outside of its folder."""
    console = home.console()
    with contextlib.suppress(CliError):
        kept = config.kept()
        if console is not None and kept is not None and _place(kept.url) == _place(console):
            config.forget()
            return [config.path()]
    return []


def _place(url: str) -> tuple[str, int | None]:
    parts = urlsplit(url)
    return ("127.0.0.1" if parts.hostname == "localhost" else parts.hostname or "", parts.port)


def _delete_home(home: Home) -> list[Path]:
    """Delete a stack's folder, and the volume of its broker where that ran in a container.

    :raises InfraError: when there is a volume and Docker cannot be asked: without the folder nobody would know of it.
    """
    broker = DockerNode(home.folder / "rabbitmq")
    if broker.was_used:
        broker.remove()
    return _delete(home.folder)


def _delete(folder: Path) -> list[Path]:
    """Delete a folder; of one that another home lent, only the link to it. Returns what is gone."""
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)
    else:
        return []
    return [folder]


def _confirmed(live: Home) -> bool:
    if not sys.stdin.isatty():
        return False
    answer = input(f"Delete {live.folder}, with the links, the ledger and the audit log in it? Type yes: ")
    return answer.strip().lower() == "yes"
