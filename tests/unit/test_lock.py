import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PINNED = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==(\S+)(.*)$")


@pytest.fixture(scope="module")
def lines() -> list[str]:
    return (ROOT / "requirements.lock").read_text().splitlines()


def test_the_lock_names_no_index_and_no_path(lines: list[str]) -> None:
    """Every machine takes packages from its own index: there is nothing but pins and hashes."""
    other = [
        line for line in lines if not PINNED.match(line) and not re.match(r"^    --hash=sha256:[0-9a-f]{64}", line)
    ]
    assert other == []


def test_the_lock_depends_on_no_version_of_python(lines: list[str]) -> None:
    """One file for all that are supported: what only one of them needs would have to be tried under it."""
    assert [line for line in lines if "python_version" in line or "python_full_version" in line] == []


def test_the_lock_has_what_is_declared(lines: list[str]) -> None:
    """Each dependency of pyproject.toml is there, in a version that it allows."""
    pins = {canonicalize_name(found[1]): found[2] for line in lines if (found := PINNED.match(line))}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    for declared in [Requirement(one) for group in groups for one in group]:
        assert declared.specifier.contains(pins[canonicalize_name(declared.name)]), declared
