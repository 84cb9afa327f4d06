"""Where a list goes on: what one page gave along for the next, read back."""

from typing import Final

from shared.contracts.problem import Invalid

# As many digits as every bigint has room for.
DIGITS: Final = 18


def is_number(text: str) -> bool:
    """Whether this is a number of ours: of a row, or of a page."""
    return text.isascii() and text.isdigit() and len(text) <= DIGITS


def read_number(cursor: str) -> int:
    """:raises Invalid: on a cursor that did not come from a page before."""
    if not is_number(cursor):
        raise not_ours(cursor)
    return int(cursor)


def not_ours(cursor: str) -> Invalid:
    return Invalid(f"The cursor {cursor!r} is none of ours; start again without one.")
