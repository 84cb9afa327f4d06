"""Pairings: their states, their codes, and whether one may be armed now."""

import secrets
from typing import Final

from shared.contracts.problem import Conflict

# Read aloud and compared between two screens: no letters or digits that are taken for one another.
_ALPHABET: Final = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"
CODE_LENGTH: Final = 4

OPEN_STATES: Final = ("armed", "matched")


class AlreadyArmed(Conflict):
    code, title = "pairing_already_armed", "A scan is already waiting at this charger"


class NotCancellable(Conflict):
    code, title = "pairing_not_open", "This scan is not waiting any more"


def new_code() -> str:
    """The code a person compares between the page and the console; it opens nothing."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(CODE_LENGTH))
