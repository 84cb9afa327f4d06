"""Times as people type them."""

from datetime import datetime

from services.admin_api.cli.errors import USAGE, CliError


def instant(text: str | None, option: str) -> str | None:
    """The same, where the API means "now" by none at all."""
    return None if text is None or text == "now" else exact(text, option)


def exact(text: str, option: str) -> str:
    """An instant of RFC 3339, from one or from a local date and time. :raises CliError: it is no time."""
    try:
        return datetime.fromisoformat(text).astimezone().isoformat()
    except ValueError:
        raise CliError(
            f"{text!r} is no time.",
            "It has to look like 2026-05-01 or 2026-05-01T09:30+02:00.",
            f"Give another {option}.",
            code=USAGE,
        ) from None
