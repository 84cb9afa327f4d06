"""`tap.decided`, sealed by the database from the tap's own row: there is one for every tap, written while taps wait.

What is in the journal already need not be put together here, sent there again, escaped and parsed on the way: that
would cost as much as all else that is done about an answer. A test compares it with what the contract's class seals.
"""

from typing import Final

from services.preauth.decision.rules import INTERCEPTING
from shared.bus.topology import EVENTS
from shared.contracts.event import SCHEMA_PREFIX
from shared.contracts.events.preauth import TapDecided

_SCHEMA: Final = f"{SCHEMA_PREFIX}{TapDecided.type}:{TapDecided.version}"
_INTERCEPTING: Final = ", ".join(f"'{reason}'" for reason in sorted(INTERCEPTING))


def _time(column: str) -> str:
    """The session's time zone is UTC."""
    return f"replace(to_json({column})::text, '+00:00', 'Z')"


def _or_null(column: str) -> str:
    return f"COALESCE(to_json({column})::text, 'null')"


# A tap's event is the only one of its subject, so its subject version is 1 and needs no counter; it stands by itself
# because SQLAlchemy takes a colon before a digit for a parameter.
_SEALED: Final = f"""concat(
    '{{"specversion":"1.0","id":"', event_id, '","type":"{TapDecided.type}","source":"expressync/{TapDecided.owner}",'
    '"subject":"tap/', tap_id, '","subjectversion":', 1, ',"time":', {_time("sealed_at")},
    ',"datacontenttype":"application/json","dataschema":"{_SCHEMA}","actorkind":"charger","actorid":',
    to_json(charge_box_id), ',"correlationid":"', COALESCE(correlation_id, tap_id),
    '","data":{{"tap_id":"', tap_id, '","charge_box_id":', to_json(charge_box_id),
    ',"connector_id":', {_or_null("connector_id")}, ',"id_tag":', to_json(id_tag),
    ',"id_tag_as_sent":', {_or_null("id_tag_as_sent")}, ',"kind":"', kind,
    '","decision":"', CASE WHEN reason IN ({_INTERCEPTING}) THEN 'intercept' ELSE 'pass' END,
    '","reason":"', reason, '","told":"', told, '","in_time":', to_json(COALESCE(in_time, false)),
    ',"duration_us":', COALESCE(duration_us, 0), ',"via":"', via, '","pairing_id":', {_or_null("pairing_id")},
    ',"tapped_at":', {_time("received_at")}, '}}}}')"""


def tell_decided(rows: str) -> str:
    """The statement that writes the events of `rows`: a table or query with a tap's columns and `event_id`,
    `sealed_at` and `correlation_id` (null: the tap's own id).
    """
    # A tap's id names its trace (W3C Trace Context), so that it needs no span while a driver waits.
    trace = "replace(tap_id::text, '-', '')"
    return (
        "INSERT INTO outbox (event_id, ordering_key, routing_key, exchange, body, traceparent)"  # noqa: S608 - as above
        f" SELECT event_id, 'tap/' || tap_id, '{TapDecided.type}', '{EVENTS}', convert_to({_SEALED}, 'UTF8'),"
        f" '00-' || {trace} || '-' || right({trace}, 16) || '-01' FROM {rows}"
    )
