"""The operations: what REST takes, what goes over the charger's socket, and what of its answer is shown."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from deploy.demo.steve.api import ApiRefusalError, bad_request
from deploy.demo.steve.model import Tag, tag_key
from deploy.demo.steve.state import SteveState
from deploy.demo.steve.views import iso

OneBox = Annotated[list[str], Meta(min_length=1, max_length=1)]
Boxes = Annotated[list[str], Meta(min_length=1)]
Text = Annotated[str, Meta(min_length=1)]
Connector = Annotated[int, Meta(ge=1)]
ConnectorOrBox = Annotated[int, Meta(ge=0)]


class RemoteStart(msgspec.Struct, rename="camel"):
    charge_box_id_list: OneBox
    id_tag: Text
    connector_id: ConnectorOrBox | None = None


class RemoteStop(msgspec.Struct, rename="camel"):
    charge_box_id_list: OneBox
    transaction_id: int


class Unlock(msgspec.Struct, rename="camel"):
    charge_box_id_list: OneBox
    connector_id: Connector


class Reset(msgspec.Struct, rename="camel"):
    charge_box_id_list: Boxes
    reset_type: Literal["Hard", "Soft"]


class Availability(msgspec.Struct, rename="camel"):
    charge_box_id_list: Boxes
    avail_type: Literal["Inoperative", "Operative"]
    connector_id: ConnectorOrBox | None = None


class Select(msgspec.Struct, rename="camel"):
    charge_box_id_list: Boxes


class Trigger(msgspec.Struct, rename="camel"):
    charge_box_id_list: Boxes
    trigger_message: Literal[
        "BootNotification",
        "DiagnosticsStatusNotification",
        "FirmwareStatusNotification",
        "Heartbeat",
        "MeterValues",
        "StatusNotification",
    ]
    connector_id: Connector | None = None


class GetConfiguration(msgspec.Struct, rename="camel"):
    charge_box_id_list: Boxes
    conf_key_list: list[str] | None = None
    comma_separated_custom_conf_keys: str | None = None


class ChangeConfiguration(msgspec.Struct, rename="camel"):
    charge_box_id_list: Boxes
    key_type: Literal["PREDEFINED", "CUSTOM"]
    conf_key: str | None = None
    custom_conf_key: str | None = None
    value: str | None = None


class DataTransfer(msgspec.Struct, rename="camel"):
    charge_box_id_list: Boxes
    vendor_id: Text
    message_id: str | None = None
    data: str | None = None


class SendLocalList(msgspec.Struct, rename="camel"):
    charge_box_id_list: Boxes
    list_version: int
    update_type: Literal["Differential", "Full"]
    send_empty_list_when_full: bool
    add_update_list: list[str] | None = None
    delete_list: list[str] | None = None


class ReserveNow(msgspec.Struct, rename="camel"):
    charge_box_id_list: OneBox
    connector_id: ConnectorOrBox
    id_tag: Text
    expiry: Annotated[datetime, Meta(tz=True)]


class CancelReservation(msgspec.Struct, rename="camel"):
    charge_box_id_list: OneBox
    reservation_id: Annotated[int, Meta(ge=0)]


@dataclass(frozen=True)
class Operation:
    """`payload` also takes the database: what some calls hold is in there."""

    action: str
    params: Any
    payload: Callable[[Any, SteveState], dict[str, Any]]
    response: Callable[[dict[str, Any]], Any]


def _status(answer: dict[str, Any]) -> str:
    return str(answer["status"])


def _present(**fields: object) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _asked_keys(params: GetConfiguration, _: SteveState) -> dict[str, Any]:
    custom = (params.comma_separated_custom_conf_keys or "").split(",")
    keys = [*(params.conf_key_list or []), *(key.strip() for key in custom if key.strip())]
    return {"key": keys} if keys else {}


def _shown_keys(answer: dict[str, Any]) -> dict[str, Any]:
    return {
        "configurationKeys": [
            {"key": one["key"], "value": one.get("value"), "readonly": one["readonly"]}
            for one in answer.get("configurationKey", [])
        ],
        "unknownKeys": list(answer.get("unknownKey", [])),
    }


def _changed_key(params: ChangeConfiguration, _: SteveState) -> dict[str, Any]:
    key = params.conf_key if params.key_type == "PREDEFINED" else params.custom_conf_key
    if not key:
        raise bad_request()
    return {"key": key, "value": params.value or ""}


def _local_list(params: SendLocalList, state: SteveState) -> dict[str, Any]:
    """Full: all tags, or none where an empty list is wanted. Differential: those to delete by their idTag alone, then
    those of the others that are there.
    """
    added, deleted = params.add_update_list or [], params.delete_list or []
    if set(added) & set(deleted):
        raise bad_request()
    entries: list[dict[str, Any]] = []
    if params.update_type == "Differential":
        if not added and not deleted:
            raise bad_request()
        wanted = {tag_key(id_tag) for id_tag in added}
        entries += [{"idTag": id_tag} for id_tag in deleted]
        entries += [_list_entry(tag, state) for tag in state.tags.values() if tag_key(tag.id_tag) in wanted]
    elif not params.send_empty_list_when_full:
        entries += [_list_entry(tag, state) for tag in state.tags.values()]
    return {"listVersion": params.list_version, "updateType": params.update_type, "localAuthorizationList": entries}


def _list_entry(tag: Tag, state: SteveState) -> dict[str, Any]:
    """As Authorize would answer, but with no expiry where the tag has none: an accepted one is good for ever."""
    info = _present(
        status=state.verdict(tag.id_tag, is_start=False).value,
        expiryDate=None if tag.expiry is None else iso(tag.expiry),
        parentIdTag=tag.parent_id_tag,
    )
    return {"idTag": tag.id_tag, "idTagInfo": info}


def _reservation(params: ReserveNow, state: SteveState) -> dict[str, Any]:
    """The row comes first, and its keys need a tag and a connector that are there (inferred: 500 without)."""
    if params.expiry <= state.clock():
        raise bad_request()
    tag = state.tag(params.id_tag)
    if tag is None or params.connector_id not in state.chargers[params.charge_box_id_list[0]].connectors:
        raise ApiRefusalError(500, "could not insert the reservation")
    return _present(
        connectorId=params.connector_id,
        expiryDate=iso(params.expiry),
        idTag=params.id_tag,
        parentIdTag=tag.parent_id_tag,
        reservationId=state.next_reservation_id(),
    )


OPERATIONS: dict[str, Operation] = {
    "RemoteStartTransaction": Operation(
        "RemoteStartTransaction",
        RemoteStart,
        lambda params, _: _present(idTag=params.id_tag, connectorId=params.connector_id),
        _status,
    ),
    "RemoteStopTransaction": Operation(
        "RemoteStopTransaction",
        RemoteStop,
        lambda params, _: {"transactionId": params.transaction_id},
        _status,
    ),
    "UnlockConnector": Operation(
        "UnlockConnector", Unlock, lambda params, _: {"connectorId": params.connector_id}, _status
    ),
    "Reset": Operation("Reset", Reset, lambda params, _: {"type": params.reset_type}, _status),
    "ChangeAvailability": Operation(
        "ChangeAvailability",
        Availability,
        lambda params, _: {"connectorId": params.connector_id or 0, "type": params.avail_type},
        _status,
    ),
    "ClearCache": Operation("ClearCache", Select, lambda *_: {}, _status),
    "TriggerMessage": Operation(
        "TriggerMessage",
        Trigger,
        lambda params, _: _present(requestedMessage=params.trigger_message, connectorId=params.connector_id),
        _status,
    ),
    "GetConfiguration": Operation("GetConfiguration", GetConfiguration, _asked_keys, _shown_keys),
    "ChangeConfiguration": Operation("ChangeConfiguration", ChangeConfiguration, _changed_key, _status),
    "DataTransfer": Operation(
        "DataTransfer",
        DataTransfer,
        lambda params, _: _present(vendorId=params.vendor_id, messageId=params.message_id, data=params.data),
        lambda answer: {"status": answer["status"], "data": answer.get("data")},
    ),
    "GetLocalListVersion": Operation(
        "GetLocalListVersion", Select, lambda *_: {}, lambda answer: answer["listVersion"]
    ),
    "SendLocalList": Operation("SendLocalList", SendLocalList, _local_list, _status),
    "ReserveNow": Operation("ReserveNow", ReserveNow, _reservation, _status),
    "CancelReservation": Operation(
        "CancelReservation", CancelReservation, lambda params, _: {"reservationId": params.reservation_id}, _status
    ),
}
