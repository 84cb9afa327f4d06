"""The first step of `make setup`, on Pythons as distributions ship them."""

import ensurepip
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local import bootstrap
from deploy.local.infra.errors import InfraError

ROOT = Path(__file__).parents[4]
# Where the interpreter's own pip lies: Debian moves it out of the standard library.
BUNDLED = (Path(ensurepip.__file__).parent / "_bundled", Path("/") / bootstrap.WHEELS)


@pytest.fixture
def without_ensurepip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Debian where python3-venv is not installed; its packages are unpacked into the returned folder."""
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    monkeypatch.setattr(bootstrap, "SYSTEM", tmp_path / "system")
    monkeypatch.setattr(bootstrap, "PACKAGES", tmp_path / "packages")
    return tmp_path / "packages"


def pip_of(environment: Path) -> str:
    asked = [str(environment / "bin/python"), "-m", "pip", "--version"]
    return subprocess.run(asked, check=True, capture_output=True, text=True, timeout=60).stdout


def test_a_python_without_ensurepip_gets_pip_from_the_distributions_wheel(
    tmp_path: Path, without_ensurepip: Path
) -> None:
    """The wheel of the unpacked package runs, and installs itself into the environment."""
    (wheel, *_) = [wheel for folder in BUNDLED for wheel in folder.glob("pip-*.whl")]
    wheels = without_ensurepip / "pip" / bootstrap.WHEELS
    wheels.mkdir(parents=True)
    shutil.copy(wheel, wheels)
    bootstrap.main(tmp_path / "venv")
    assert str(tmp_path / "venv") in pip_of(tmp_path / "venv")


@pytest.mark.full
@pytest.mark.skipif(shutil.which("apt-get") is None, reason="there is no package source without apt")
@pytest.mark.usefixtures("without_ensurepip")
def test_the_wheel_is_downloaded_without_root(tmp_path: Path) -> None:
    """Apt's own package is unpacked in a private folder."""
    bootstrap.main(tmp_path / "venv")
    assert str(tmp_path / "venv") in pip_of(tmp_path / "venv")


@pytest.mark.usefixtures("without_ensurepip")
def test_a_machine_that_offers_no_pip_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without apt there are three lines, and no half-made environment that `make` would take for a whole one."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InfraError, match="python3-venv") as error:
        bootstrap.main(tmp_path / "venv")
    assert len(str(error.value).splitlines()) == 3
    assert not (tmp_path / "venv").exists()


@pytest.mark.parametrize(("limit", "version", "what"), [("OLDEST", (99, 0), "too old"), ("NEWEST", (3, 0), "too new")])
def test_another_python_is_told_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, version: tuple[int, int], what: str
) -> None:
    """Its version, where it is, and how to name another."""
    monkeypatch.setattr(bootstrap, limit, version)
    with pytest.raises(InfraError, match=what):
        bootstrap.main(tmp_path / "venv")
    assert not (tmp_path / "venv").exists()


def test_the_set_up_needs_nothing_but_the_standard_library(tmp_path: Path) -> None:
    """`make setup` runs it with the machine's Python, which has none of our packages."""
    venv = tmp_path / "venv"
    alone = [sys.executable, "-I", "-S", "-c"]
    code = f"import sys, runpy; sys.path.insert(0, {str(ROOT)!r}); sys.argv = ['', {str(venv)!r}];"
    code += "runpy.run_module('deploy.local.bootstrap', run_name='__main__')"
    subprocess.run([*alone, code], check=True, timeout=120)
    assert str(venv) in pip_of(venv)
