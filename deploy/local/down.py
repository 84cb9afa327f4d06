"""`expressync down`: stop, and leave nothing behind."""

import shutil
import sys

from deploy.local.home import Home
from deploy.local.running import stop


def run_down(*, yes: bool, keep: bool) -> int:
    """Stop demo and live stack; delete the demo's data, and the live data where that is confirmed."""
    demo, live = Home.of("demo"), Home.of("live")
    for home in (demo, live):
        if stop(home):
            print(f"The {home.kind} stack has stopped.")
    if keep:
        return 0
    if demo.folder.exists():
        shutil.rmtree(demo.folder)
        print(f"Deleted {demo.folder}.")
    if live.folder.exists():
        # A ledger of what was billed is not deleted because somebody wanted to stop a program.
        if not (yes or _confirmed(live)):
            print(f"Kept {live.folder}: links, ledger and audit log of your stack. `expressync down --yes` deletes it.")
            return 0
        shutil.rmtree(live.folder)
        print(f"Deleted {live.folder}.")
    if demo.packages.is_symlink():
        # Shared with another home, whose packages they are.
        demo.packages.unlink()
    elif demo.packages.exists():
        shutil.rmtree(demo.packages)
        print(f"Deleted {demo.packages}.")
    if demo.base.exists() and not any(demo.base.iterdir()):
        demo.base.rmdir()
    return 0


def _confirmed(live: Home) -> bool:
    if not sys.stdin.isatty():
        return False
    answer = input(f"Delete {live.folder}, with the links, the ledger and the audit log in it? Type yes: ")
    return answer.strip().lower() == "yes"
