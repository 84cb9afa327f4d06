"""What is read of a session's name, and of where a list of sessions goes on."""

from datetime import UTC, datetime

import pytest

from services.sync.sessions.handlers import SessionUnknown, parse_session, read_cursor
from shared.contracts.problem import Invalid


@pytest.mark.parametrize("session", ["", "steve", "steve:", ":7", "steve:-7", "steve:²", f"steve:{'9' * 20}"])
def test_what_names_no_session_is_unknown(session: str) -> None:
    """Neither other digits nor a number that no row can have is looked for."""
    with pytest.raises(SessionUnknown):
        parse_session(session)


@pytest.mark.parametrize("cursor", ["", "7", "soon/7", "2026-05-01T09:30:00Z/²", f"2026-05-01T09:30:00Z/{'9' * 20}"])
def test_a_cursor_that_no_page_gave_is_refused(cursor: str) -> None:
    """With the whole of it in the words."""
    with pytest.raises(Invalid, match="none of ours") as refused:
        read_cursor(cursor)
    assert repr(cursor) in refused.value.detail


def test_what_a_page_gave_is_read_back() -> None:
    """A session's name, and a moment with a number."""
    assert parse_session("steve:de:7") == ("steve:de", 7)
    assert read_cursor("2026-05-01T09:30:00+00:00/7") == (datetime(2026, 5, 1, 9, 30, tzinfo=UTC), 7)
