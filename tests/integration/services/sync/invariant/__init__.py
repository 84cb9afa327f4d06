import pytest

# What fails there says with which values, as in a file of tests.
pytest.register_assert_rewrite(*(f"{__name__}.{room}" for room in ("books", "machine", "in_lago", "stage")))
