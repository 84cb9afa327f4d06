"""Did a charger do what it was told, and are its scans out of the ordinary? Judged from evidence, and pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

Outcome = Literal["honoured", "ignored", "explained"]

# A session this soon after the tap, with the same card at the same charger, is the tap's.
BELONGS: Final = timedelta(seconds=120)
# SteVe writes a transaction for a Blocked start too, and the charger ends it: one that is still open after this time
# was not ended.
STILL_OPEN: Final = timedelta(seconds=60)
# When everything that could have happened has happened.
JUDGED_AFTER: Final = BELONGS + STILL_OPEN
# After an attempt to stop a session that had no answer of the charger's, the next one; after the last, none.
STOP_AGAIN_AFTER: Final = (timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=15))


# A station's clock is believed this far back, because a session may be known late, and this far ahead of ours.
KNOWN_LATE: Final = timedelta(hours=24)
AHEAD: Final = timedelta(minutes=1)


def may_have_begun(by_station: datetime, seen_at: datetime, *, seen_running: bool) -> list[datetime]:
    """When a session may have begun, the likelier time first.

    One that was seen running began when it was first seen, or before, where it was known late: then its station says
    when, whose clock may be wrong. One that had ended when it was first seen may be of any time: a charger that was
    offline tells what it did. Of that the station alone can say when it was.
    """
    times = [seen_at] if seen_running else []
    if seen_at - KNOWN_LATE <= by_station <= seen_at + AHEAD:
        times.append(by_station)
    return times


@dataclass(frozen=True, slots=True)
class Blocked:
    """A tap that was told Blocked in time, with the card's next session there, if one may have begun in `BELONGS`."""

    told_at: datetime
    let_through_later: bool
    """A later Authorize of the card here passed, before that session began."""
    remote_start: bool
    """Somebody asked for a start with this card here."""
    session_started_at: datetime | None = None
    session_stopped_at: datetime | None = None
    energy_wh: int | None = None
    of_before: bool = False
    """That session's start came before the tap; or it had ended when it was first seen, and may have been long ago."""
    dated_elsewhere: bool = False
    """It was first seen then, but its station says that it began at another time, which tells nothing until it ends:
    then it is known how long it ran."""

    @property
    def may_be_of_before(self) -> bool:
        """A charger that was offline may have begun it long before, and only now have told of it."""
        return self.of_before or (self.dated_elsewhere and self.session_stopped_at is None)


@dataclass(frozen=True, slots=True)
class Judgement:
    outcome: Outcome
    evidence: str


def needs_sight(tap: Blocked, now: datetime) -> bool:
    """Whether it is time to ask if what nobody told of has not happened: that a session began, or that it ended."""
    if tap.session_started_at is None:
        return now >= tap.told_at + BELONGS
    if tap.may_be_of_before:
        return False
    return tap.session_stopped_at is None and now >= tap.session_started_at + STILL_OPEN


def judge(tap: Blocked, now: datetime, known_until: datetime | None) -> Judgement | None:
    """What the charger did, or None while that cannot be known.

    `known_until`: sessions that began or ended later may not be known yet. None: there may be any.
    """
    if tap.session_started_at is None:
        if known_until is None or min(known_until, now) < tap.told_at + BELONGS:
            return None
        return Judgement("honoured", "no session began")
    explained = _explained(tap, now)
    if explained is not None:
        return Judgement("explained", explained)
    ignored = _ignored(tap, tap.session_started_at, None if known_until is None else min(now, known_until))
    if ignored is not None:
        return Judgement("ignored", ignored)
    if tap.session_stopped_at is not None and now >= tap.told_at + JUDGED_AFTER:
        return Judgement("honoured", "the session was ended at once, without energy")
    return None


def _explained(tap: Blocked, now: datetime) -> str | None:
    if tap.of_before:
        # Until then the tap's own one may still be told of.
        return "the session that was told of may have begun before" if now >= tap.told_at + JUDGED_AFTER else None
    if tap.let_through_later:
        return "the card was let through afterwards"
    return "a remote start was asked for" if tap.remote_start else None


def _ignored(tap: Blocked, started_at: datetime, known_until: datetime | None) -> str | None:
    if tap.may_be_of_before:
        return None
    if tap.energy_wh is not None and tap.energy_wh > 0:
        return f"{tap.energy_wh} Wh flowed"
    open_until = tap.session_stopped_at or known_until
    if open_until is not None and open_until - started_at >= STILL_OPEN:
        return f"the session was still open {STILL_OPEN.seconds} s later"
    return None


def is_unusual(scans: int, usual: float) -> bool:
    """Whether this many scans in a window are far more than the usual number in a window of that length."""
    return scans >= 6 and scans > 4 * usual


def stop_again_at(attempts: int, now: datetime) -> datetime | None:
    """When a session is to be stopped again that so many attempts have not stopped, or None: it was enough."""
    return now + STOP_AGAIN_AFTER[attempts - 1] if attempts <= len(STOP_AGAIN_AFTER) else None
