"""Programs that run as another user, without root."""

import os
import stat
import sys
import sysconfig
from pathlib import Path
from typing import Final

NOBODY: Final = 65534
ROOT: Final = Path(__file__).parents[1]


def becoming(uid: int) -> list[str]:
    """What to put in front of a command that root runs as this user, who needs no name.

    Where Python itself lies in a private folder of root, that user may also read there, and nothing more: the
    interpreter of this machine is not under test.
    """
    setpriv = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    needed = [Path(sys.executable), Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("purelib")), ROOT]
    if not all(_reachable_by_others(path) for path in needed):
        setpriv += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    return [*setpriv, "--"]


def environment_of_another() -> dict[str, str]:
    """Nothing that is root's."""
    return {"PATH": os.defpath, "HOME": "/nonexistent", "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


def _reachable_by_others(path: Path) -> bool:
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in [*path.resolve().parents])
