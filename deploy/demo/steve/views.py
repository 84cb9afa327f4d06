"""The JSON that REST answers with: camelCase, every field present, null where there is nothing."""

from datetime import UTC, datetime

import msgspec

from deploy.demo.steve import rules
from deploy.demo.steve.model import MeterValue, Tag, Transaction
from deploy.demo.steve.state import SteveState


class TagOverview(msgspec.Struct, rename="camel"):
    ocpp_tag_pk: int
    id_tag: str
    user_pk: int | None
    parent_ocpp_tag_pk: int | None
    parent_id_tag: str | None
    in_transaction: bool
    blocked: bool
    expiry_date: str | None
    max_active_transaction_count: int
    active_transaction_count: int
    note: str | None


class TransactionView(msgspec.Struct, rename="camel"):
    id: int
    connector_id: int
    charge_box_pk: int
    ocpp_tag_pk: int
    user_id: int | None
    charge_box_id: str
    ocpp_id_tag: str
    start_value: str
    start_timestamp: str
    stop_value: str | None
    stop_timestamp: str | None
    stop_reason: str | None
    stop_event_actor: str | None


class MeterValueView(msgspec.Struct, rename="camel"):
    value_timestamp: str
    value: str
    reading_context: str | None
    format: str | None
    measurand: str | None
    location: str | None
    unit: str | None
    phase: str | None


class TransactionDetails(msgspec.Struct):
    transaction: TransactionView
    values: list[MeterValueView]


class ApiError(msgspec.Struct):
    timestamp: str
    status: int
    error: str
    message: str | None
    path: str


def iso(moment: datetime) -> str:
    """ISO-8601 in UTC with milliseconds and a Z, as SteVe writes every date."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def _iso_or_none(moment: datetime | None) -> str | None:
    return None if moment is None else iso(moment)


def tag_overview(state: SteveState, tag: Tag) -> TagOverview:
    parent = None if tag.parent_id_tag is None else state.tag(tag.parent_id_tag)
    active = state.active_count(tag)
    return TagOverview(
        ocpp_tag_pk=tag.pk,
        id_tag=tag.id_tag,
        user_pk=tag.user_pk,
        parent_ocpp_tag_pk=None if parent is None else parent.pk,
        parent_id_tag=tag.parent_id_tag,
        in_transaction=active > 0,
        blocked=tag.blocked,
        expiry_date=_iso_or_none(tag.expiry),
        max_active_transaction_count=tag.limit,
        active_transaction_count=active,
        note=tag.note,
    )


def transaction_view(state: SteveState, transaction: Transaction) -> TransactionView:
    stop = transaction.stop
    tag = state.tags.get(transaction.tag_pk)
    return TransactionView(
        id=transaction.pk,
        connector_id=transaction.connector_id,
        charge_box_pk=transaction.charge_box_pk,
        ocpp_tag_pk=transaction.tag_pk,
        user_id=None if tag is None else tag.user_pk,
        charge_box_id=transaction.charge_box_id,
        ocpp_id_tag=transaction.id_tag,
        start_value=transaction.start_value,
        start_timestamp=iso(transaction.start_at),
        stop_value=None if stop is None else stop.value,
        stop_timestamp=None if stop is None else iso(stop.at),
        stop_reason=None if stop is None else stop.reason,
        stop_event_actor=None if stop is None else stop.actor.value,
    )


def _is_energy(reading: MeterValue) -> bool:
    # OCPP 1.6, 7.42: without a measurand a value is Energy.Active.Import.Register.
    return reading.measurand in {None, "Energy.Active.Import.Register"}


def transaction_details(state: SteveState, transaction: Transaction, *, energy_only: bool) -> TransactionDetails:
    readings = state.meter_values.get(transaction.pk, [])
    shown = rules.first_of_equal([one for one in readings if _is_energy(one) or not energy_only])
    return TransactionDetails(
        transaction=transaction_view(state, transaction),
        values=[
            MeterValueView(
                value_timestamp=iso(one.at),
                value=one.value,
                reading_context=one.context,
                format=one.format,
                measurand=one.measurand,
                location=one.location,
                unit=one.unit,
                phase=one.phase,
            )
            for one in shown
        ],
    )
