"""From a posted body to events, or to the error Lago answers. Pure: nothing is stored here."""

import re
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from deploy.demo.lago.model import Event, Metric
from deploy.demo.lago.values import LAST_INSTANT, InvalidFormatError, read_timestamp

MAX_BATCH: Final = 100
MANDATORY: Final = "value_is_mandatory"
DUPLICATE: Final = "value_already_exist"
INVALID_FORMAT: Final = "invalid_format"

FieldErrors = dict[str, list[str]]
_VARIABLE: Final = re.compile(r"event\.properties\.([A-Za-z0-9_]+)")


class TooLargeError(Exception):
    """What only fails inside the database, as a 500: properties too long to be indexed, a year too far."""


@dataclass(slots=True)
class Reading:
    """The events of a body and the errors by index; with any error nothing may be stored."""

    events: list[Event] = field(default_factory=list)
    errors: dict[int, FieldErrors | str] = field(default_factory=dict)
    too_large: bool = False


class Reader:
    """Reads events as Lago does: what is no scalar is dropped, what is missing is named.

    Args:
        metrics: by code; only their expressions matter here.
        max_properties_bytes: fact 8.

    """

    def __init__(self, metrics: dict[str, Metric], max_properties_bytes: int) -> None:
        self._metrics = metrics
        self._max_properties_bytes = max_properties_bytes

    def read_all(self, items: list[dict[str, Any]], now_us: int) -> Reading:
        """Field errors of every event (the first round); duplicates are for the store to find."""
        reading = Reading()
        for index, item in enumerate(items):
            try:
                event = self._read(item, now_us)
            except InvalidFormatError:
                reading.errors[index] = {"timestamp": [INVALID_FORMAT]}
                continue
            except TooLargeError:
                reading.too_large = True
                continue
            problem = self._problem(event)
            if problem is None:
                reading.events.append(event)
            else:
                reading.errors[index] = problem
        return reading

    def _read(self, item: dict[str, Any], now_us: int) -> Event:
        sent = item.get("timestamp")
        timestamp_us = now_us if sent is None else read_timestamp(sent)
        properties = item.get("properties")
        if not isinstance(properties, dict):
            properties = {}
        if abs(timestamp_us) > LAST_INSTANT or self._too_long(properties):
            raise TooLargeError
        return Event(
            transaction_id=_scalar(item.get("transaction_id")) or "",
            external_subscription_id=_scalar(item.get("external_subscription_id")),
            code=_scalar(item.get("code")) or "",
            timestamp_us=timestamp_us,
            properties=properties,
            precise_total_amount_cents=_scalar(item.get("precise_total_amount_cents")),
            created_us=now_us,
        )

    def _too_long(self, properties: dict[str, Any]) -> bool:
        return bool(properties) and len(msgspec.json.encode(properties)) > self._max_properties_bytes

    def _problem(self, event: Event) -> FieldErrors | str | None:
        metric = self._metrics.get(event.code)
        if metric is not None and metric.expression:
            for variable in _VARIABLE.findall(metric.expression):
                if variable not in event.properties:
                    return f"expression_evaluation_failed: Variable: {variable} not found"
        blank = [name for name in ("transaction_id", "code") if not getattr(event, name).strip()]
        return {name: [MANDATORY] for name in blank} or None


def _scalar(value: object) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (int, float)) else None
