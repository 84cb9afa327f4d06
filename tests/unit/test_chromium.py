"""Where the browser tests find their browser, and what they say where there is none."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.infra.errors import InfraError
from tests.browser import chromium


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine that has only the programs put into the returned folder, and no packages either."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in (chromium.GIVEN, chromium.REQUIRED):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(chromium, "PACKAGES", tmp_path / "packages")
    chromium.find.cache_clear()
    yield folder
    chromium.find.cache_clear()


def program(path: Path) -> str:
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(path)


def test_a_given_browser_comes_before_the_machines(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EXPRESSYNC_CHROMIUM says which."""
    program(machine / "chromium")
    given = program(machine / "my-own")
    monkeypatch.setenv(chromium.GIVEN, given)
    assert chromium.find().path == given


def test_a_given_browser_that_is_none_is_named(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong path is told instead of taking another one."""
    program(machine / "chromium")
    monkeypatch.setenv(chromium.GIVEN, str(machine / "missing"))
    with pytest.raises(InfraError, match="missing"):
        chromium.find()


@pytest.mark.parametrize("name", ["chromium", "chromium-browser", "google-chrome"])
def test_the_machines_browser_is_found_by_any_of_its_names(machine: Path, name: str) -> None:
    """Distributions call it differently."""
    path = program(machine / name)
    assert chromium.find().path == path


def test_unpacked_packages_come_with_their_libraries_and_fonts(tmp_path: Path) -> None:
    """The tree lies where nobody would look for either; the machine's fonts serve too."""
    root = tmp_path / "packages" / "chromium"
    for folder in ("usr/lib/chromium", "usr/lib/x86_64-linux-gnu", "usr/share/fonts"):
        (root / folder).mkdir(parents=True)
    path = program(root / "usr/lib/chromium/chromium")
    found = chromium.find()
    assert found.path == path
    assert found.env["LD_LIBRARY_PATH"] == str(root / "usr/lib/x86_64-linux-gnu")
    fonts = Path(found.env["FONTCONFIG_FILE"]).read_text()
    assert f"<dir>{root}/usr/share/fonts</dir>" in fonts
    assert "<dir>/usr/share/fonts</dir>" in fonts


def test_a_package_without_a_browser_is_told(tmp_path: Path) -> None:
    """Ubuntu's only fetches a snap."""
    (tmp_path / "packages" / "chromium").mkdir(parents=True)
    with pytest.raises(InfraError, match="holds none"):
        chromium.find()


@pytest.mark.parametrize("required", [False, True])
def test_without_a_browser_the_tests_skip_or_fail_with_what_to_do(
    machine: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, *, required: bool
) -> None:
    """A person is told; a build server, which sets EXPRESSYNC_REQUIRE_BROWSER, is stopped."""
    if required:
        monkeypatch.setenv(chromium.REQUIRED, "1")
    ended = pytest.fail.Exception if required else pytest.skip.Exception
    assert not list(machine.iterdir())
    request.node.add_marker("browser")
    with pytest.raises(ended, match=chromium.GIVEN):
        chromium.pytest_runtest_setup(request.node)
