"""What SteVe decides, as pure functions. Source: facts/steve.md, "How a tap is decided, in order"."""

from datetime import date, datetime, timedelta
from decimal import ROUND_CEILING, Decimal

from deploy.demo.steve.model import AuthorizationStatus, MeterValue, Stop, StopActor, Tag, Transaction

# SteVe takes a station's clock to be right up to this much ahead of its own.
FUTURE_TOLERANCE = timedelta(minutes=5)


def decide(tag: Tag | None, *, active_count: int, is_start: bool, now: datetime) -> AuthorizationStatus:
    """The verdict on a presented card. The parent's state is never looked at; its tag is only passed on.

    `active_count` counts the tag's open transactions before this one. Authorize does not look at it.
    """
    if tag is None:
        return AuthorizationStatus.INVALID
    if tag.blocked:
        return AuthorizationStatus.BLOCKED
    if tag.expiry is not None and tag.expiry < now:
        return AuthorizationStatus.EXPIRED
    if is_start and 0 < tag.limit <= active_count:
        return AuthorizationStatus.CONCURRENT_TX
    return AuthorizationStatus.ACCEPTED


def stop_failure(transaction: Transaction | None, *, stopped_at: datetime, value_wh: int, now: datetime) -> str | None:
    """Why a StopTransaction is not applied, or None. The charger never learns of it."""
    if transaction is None:
        return "the transaction is unknown for this station"
    if transaction.stop is not None and transaction.stop.actor is StopActor.STATION:
        return "the station stopped this transaction before"
    if stopped_at < transaction.start_at:
        return "the stop lies before the start"
    if stopped_at > now + FUTURE_TOLERANCE:
        return "the stop lies in the future"
    if value_wh < int(transaction.start_value):
        return "the stop value lies below the start value"
    return None


def manual_stop(transaction: Transaction, meter_values: list[MeterValue], following: Transaction | None) -> Stop:
    """The values SteVe invents for `PATCH /{pk}/stop`.

    Preferred is the last energy reading, then the next start on the connector, then the own start.
    """
    energies = [reading for reading in meter_values if reading.unit in {"Wh", "kWh"}] or meter_values
    if energies:
        last = max(energies, key=lambda reading: reading.at)
        value = Decimal(last.value) * (1000 if last.unit == "kWh" else 1)
        whole = value.to_integral_value(rounding=ROUND_CEILING)
        return Stop(at=last.at, value=str(int(whole)), reason=None, actor=StopActor.MANUAL)
    if following is not None:
        value_wh = max(int(following.start_value), int(transaction.start_value))
        return Stop(at=following.start_at, value=str(value_wh), reason=None, actor=StopActor.MANUAL)
    return Stop(at=transaction.start_at, value=transaction.start_value, reason=None, actor=StopActor.MANUAL)


def first_of_equal(meter_values: list[MeterValue]) -> list[MeterValue]:
    """Readings that differ only in their time are shown once, with the earliest time, oldest first."""
    earliest: dict[tuple[str | None, ...], MeterValue] = {}
    for reading in sorted(meter_values, key=lambda one: one.at):
        key = (
            reading.value,
            reading.context,
            reading.format,
            reading.measurand,
            reading.location,
            reading.unit,
            reading.phase,
        )
        earliest.setdefault(key, reading)
    return list(earliest.values())


def period_days(period: str, today: date) -> tuple[date, date] | None:
    """First and last day of TODAY and LAST_n (UTC, both included); None for the other period types."""
    if period == "TODAY":
        return today, today
    if period in {"LAST_10", "LAST_30", "LAST_90"}:
        return today - timedelta(days=int(period.removeprefix("LAST_"))), today
    return None
