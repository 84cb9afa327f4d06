"""What SteVe's REST answers, as far as this house reads it (facts: SteVe)."""

import re
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Final, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from shared.contracts.identity import id_tag_key
from shared.contracts.requests.sync import SteveCard

# SteVe's ids are Java integers, counted from 1.
HIGHEST_PK: Final = 2**31 - 1


def read_wh(text: object) -> int | None:
    """A register's reading in whole Wh, or None where it is no number. Fractions of a Wh are cut off.

    Stations report integers (OCPP 1.6, 6.45 and 6.49), SteVe keeps them as text, and some report what is neither.
    """
    try:
        value = Decimal(str(text).strip())
    except InvalidOperation:
        return None
    return int(value) if value.is_finite() and abs(value) < Decimal(10) ** 15 else None


Wh = Annotated[int | None, BeforeValidator(read_wh)]


class _Model(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)


class Tag(_Model):
    """`OcppTagOverview`. `max_active_transaction_count`: 0 blocked, negative unlimited."""

    ocpp_tag_pk: int
    id_tag: str
    user_pk: int | None = None
    parent_ocpp_tag_pk: int | None = None
    parent_id_tag: str | None = None
    in_transaction: bool = False
    blocked: bool = False
    expiry_date: AwareDatetime | None = None
    max_active_transaction_count: int
    active_transaction_count: int = 0
    note: str | None = None

    def view(self) -> SteveCard:
        return SteveCard(
            ocpp_tag_pk=self.ocpp_tag_pk,
            id_tag=self.id_tag,
            parent_id_tag=self.parent_id_tag,
            max_active_transaction_count=self.max_active_transaction_count,
            active_transaction_count=self.active_transaction_count,
            in_transaction=self.in_transaction,
            blocked=self.blocked,
            expiry=self.expiry_date,
            note=self.note,
            user_pk=self.user_pk,
            parent_ocpp_tag_pk=self.parent_ocpp_tag_pk,
        )


class TagForm(_Model):
    """`OcppTagForm`, always sent whole: what is left out is erased, and a missing limit unblocks (facts 4)."""

    id_tag: str
    parent_id_tag: str | None
    expiry_date: datetime | None
    max_active_transaction_count: int
    note: str | None

    @classmethod
    def of(cls, tag: Tag) -> "TagForm":
        """The form that changes nothing."""
        return cls(
            id_tag=tag.id_tag,
            parent_id_tag=tag.parent_id_tag,
            expiry_date=tag.expiry_date,
            max_active_transaction_count=tag.max_active_transaction_count,
            note=tag.note,
        )


class Transaction(_Model):
    """`stop_event_actor` is station, manual or None while the transaction is open."""

    pk: int = Field(alias="id", gt=0, le=HIGHEST_PK)
    connector_id: int
    charge_box_id: str
    ocpp_id_tag: str
    ocpp_tag_pk: int | None = None
    start_wh: Wh = Field(alias="startValue")
    start_timestamp: AwareDatetime
    stop_wh: Wh = Field(None, alias="stopValue")
    stop_timestamp: AwareDatetime | None = None
    stop_reason: str | None = None
    stop_event_actor: Literal["station", "manual"] | None = None

    @property
    def id_tag(self) -> str:
        return id_tag_key(self.ocpp_id_tag)

    @property
    def stopped(self) -> bool:
        return self.stop_timestamp is not None


_PLAIN_NUMBER = re.compile(r"^-?[0-9]+(\.[0-9]+)?$")


class MeterValue(_Model):
    value_timestamp: AwareDatetime
    value: str
    reading_context: str | None = None
    measurand: str | None = None
    location: str | None = None
    unit: str | None = None
    phase: str | None = None

    def register_wh(self) -> int | None:
        """The energy register in Wh, or None where this value is something else (OCPP 1.6, 7.31, 7.44)."""
        if self.measurand not in (None, "", "Energy.Active.Import.Register") or self.phase:
            return None
        if not _PLAIN_NUMBER.match(self.value):
            return None
        factor = {None: 1, "": 1, "Wh": 1, "kWh": 1000}.get(self.unit)
        return None if factor is None else int(Decimal(self.value) * factor)


class TransactionDetails(BaseModel):
    transaction: Transaction
    values: list[MeterValue] = []


class _Success(_Model):
    charge_box_id: str
    response: Any = None


class _Error(_Model):
    charge_box_id: str
    error_code: str | None = None
    error_description: str | None = None


class _Exception(_Model):
    charge_box_id: str
    exception_message: str | None = None


class OperationResult(_Model):
    """200 does not mean that the charger accepted."""

    task_id: int | None = None
    task_finished: bool = False
    success_responses: list[_Success] = []
    error_responses: list[_Error] = []
    exceptions: list[_Exception] = []
