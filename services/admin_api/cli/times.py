"""Times as people type them."""

from datetime import datetime

from services.admin_api.cli.errors import USAGE, CliError


def instant(text: str | None, option: str) -> str | None:
    """An instant of RFC 3339 or a local date and time, as the API takes it; None for now, and for none."""
    if text is None or text == "now":
        return None
    try:
        return datetime.fromisoformat(text).astimezone().isoformat()
    except ValueError:
        raise CliError(
            f"{text!r} is no time.",
            "It has to look like 2026-05-01 or 2026-05-01T09:30+02:00.",
            f"Give another {option}.",
            code=USAGE,
        ) from None
