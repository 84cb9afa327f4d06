"""The operations: what REST takes, what goes over the charger's socket, and what of its answer is shown."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from deploy.demo.steve.api import bad_request

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


@dataclass(frozen=True)
class Operation:
    action: str
    params: Any
    payload: Callable[[Any], dict[str, Any]]
    response: Callable[[dict[str, Any]], Any]


def _status(answer: dict[str, Any]) -> str:
    return str(answer["status"])


def _present(**fields: object) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _asked_keys(params: GetConfiguration) -> dict[str, Any]:
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


def _changed_key(params: ChangeConfiguration) -> dict[str, Any]:
    key = params.conf_key if params.key_type == "PREDEFINED" else params.custom_conf_key
    if not key:
        raise bad_request()
    return {"key": key, "value": params.value or ""}


OPERATIONS: dict[str, Operation] = {
    "RemoteStartTransaction": Operation(
        "RemoteStartTransaction",
        RemoteStart,
        lambda params: _present(idTag=params.id_tag, connectorId=params.connector_id),
        _status,
    ),
    "RemoteStopTransaction": Operation(
        "RemoteStopTransaction",
        RemoteStop,
        lambda params: {"transactionId": params.transaction_id},
        _status,
    ),
    "UnlockConnector": Operation(
        "UnlockConnector", Unlock, lambda params: {"connectorId": params.connector_id}, _status
    ),
    "Reset": Operation("Reset", Reset, lambda params: {"type": params.reset_type}, _status),
    "ChangeAvailability": Operation(
        "ChangeAvailability",
        Availability,
        lambda params: {"connectorId": params.connector_id or 0, "type": params.avail_type},
        _status,
    ),
    "ClearCache": Operation("ClearCache", Select, lambda _: {}, _status),
    "TriggerMessage": Operation(
        "TriggerMessage",
        Trigger,
        lambda params: _present(requestedMessage=params.trigger_message, connectorId=params.connector_id),
        _status,
    ),
    "GetConfiguration": Operation("GetConfiguration", GetConfiguration, _asked_keys, _shown_keys),
    "ChangeConfiguration": Operation("ChangeConfiguration", ChangeConfiguration, _changed_key, _status),
    "DataTransfer": Operation(
        "DataTransfer",
        DataTransfer,
        lambda params: _present(vendorId=params.vendor_id, messageId=params.message_id, data=params.data),
        lambda answer: {"status": answer["status"], "data": answer.get("data")},
    ),
    "GetLocalListVersion": Operation("GetLocalListVersion", Select, lambda _: {}, lambda answer: answer["listVersion"]),
}
