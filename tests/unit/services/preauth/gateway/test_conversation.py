"""Calls and their answers, understood together, with a bounded memory."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.preauth.chargers.seen import RemoteStartPassed, RemoteStartRefused, SessionStarted
from services.preauth.gateway import rules
from services.preauth.gateway.conversation import REMEMBERED_CALLS, REMOTE_START_S, Conversation

AT = datetime(2026, 5, 1, 10, tzinfo=UTC)


def frame(*parts: object) -> bytes:
    return json.dumps(parts).encode()


def call(talk: Conversation, message_id: str, action: str, payload: object) -> None:
    read = rules.read_known(frame(2, message_id, action, payload))
    assert read is not None
    assert read[1] is not None
    talk.called(read[0], read[1], AT)


START = {"connectorId": 1, "idTag": "A", "meterStart": 5, "timestamp": "2026-05-01T10:00:00Z"}


def test_session_exists_when_steve_has_answered() -> None:
    """A start is told by SteVe's answer to it, once."""
    talk = Conversation("CP")
    call(talk, "1", "StartTransaction", START)
    answer = frame(3, "1", {"transactionId": 7, "idTagInfo": {"status": "Accepted"}})
    heard = talk.answered(answer, AT)
    assert heard is not None
    assert isinstance(heard.seen, SessionStarted)
    assert talk.answered(answer, AT) is None


@pytest.mark.parametrize(
    "odd",
    [{"meterStart": 5.0}, {"meterStart": "5"}, {"connectorId": "1"}, {"timestamp": "2026-05-01T10:00Z"}],
)
def test_a_start_that_is_written_oddly_begins_a_session(odd: dict[str, object]) -> None:
    """SteVe takes it, so there is a session: with what it says, however that is written."""
    talk = Conversation("CP")
    call(talk, "1", "StartTransaction", START | odd)
    heard = talk.answered(frame(3, "1", {"transactionId": 7, "idTagInfo": {"status": "Accepted"}}), AT)
    assert heard is not None
    assert isinstance(heard.seen, SessionStarted)
    seen = heard.seen
    assert (seen.connector_id, seen.meter_start_wh, seen.started_at) == (1, 5, AT)


def test_a_start_without_a_time_began_when_it_passed() -> None:
    """Nothing else is known of it."""
    talk = Conversation("CP")
    call(talk, "1", "StartTransaction", {"idTag": "A"})
    heard = talk.answered(frame(3, "1", {"transactionId": 7, "idTagInfo": {"status": "Accepted"}}), AT)
    assert heard is not None
    assert isinstance(heard.seen, SessionStarted)
    assert heard.seen.started_at == AT


def test_remote_start_shields_its_card_for_a_while() -> None:
    """The card of a RemoteStart is known, however it is spelled, until it started, was refused, or time went by."""
    ask = frame(2, "r", "RemoteStartTransaction", {"idTag": " card ", "connectorId": 1})
    for end in ("time", "start", "refused"):
        talk = Conversation("CP")
        assert isinstance(talk.called_by_steve(ask, AT, 100.0), RemoteStartPassed)
        assert talk.started_remotely("CARD", 101.0)
        assert not talk.started_remotely("OTHER", 101.0)
        seen = talk.answered_by_charger(frame(3, "r", {"status": "Rejected" if end == "refused" else "Accepted"}), AT)
        assert isinstance(seen, RemoteStartRefused) is (end == "refused")
        if end == "start":
            talk.session_began("Card")
        now = 101.0 + REMOTE_START_S if end == "time" else 102.0
        assert not talk.started_remotely("CARD", now)


@given(st.lists(st.integers(0, 500), max_size=200))
def test_memory_is_bounded(ids: list[int]) -> None:
    """A SteVe or a charger that never answers does not fill the memory; the newest calls are the ones kept."""
    talk = Conversation("CP")
    for number in ids:
        call(talk, str(number), "StartTransaction", START)
        talk.called_by_steve(frame(2, str(number), "RemoteStartTransaction", {"idTag": str(number)}), AT, 0.0)
    for memory in (talk._calls, talk._remote_calls, talk._remote_starts):
        assert len(memory) <= REMEMBERED_CALLS
    if ids:
        assert talk.answered(frame(4, str(ids[-1]), "X", "", {}), AT) is not None
