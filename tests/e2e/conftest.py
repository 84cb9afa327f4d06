from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.launched import home, run


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    folder = home(tmp_path / "home")
    yield folder
    run(folder, "down", "--yes")
