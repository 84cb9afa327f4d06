"""The contracts as documents for others: JSON Schemas of events and requests, and the events as AsyncAPI 3.0."""

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from shared.contracts import event, request
from shared.contracts.event import CONTENT_TYPE, SCHEMA_PREFIX, Envelope, Event
from shared.contracts.problem import ProblemDetails
from shared.contracts.request import ReplyEnvelope, RequestEnvelope

DRAFT = "https://json-schema.org/draft/2020-12/schema"

Json = dict[str, Any]


def _first_line(cls: type[BaseModel]) -> str:
    return (cls.__doc__ or "").strip().split("\n", maxsplit=1)[0]


def event_schemas() -> dict[str, Json]:
    """The payload of each event type and version, by `<type>.<version>`."""
    return {
        f"{name}.{version}": {"$schema": DRAFT, "$id": f"{SCHEMA_PREFIX}{name}:{version}", **cls.model_json_schema()}
        for (name, version), cls in sorted(event.registered().items())
    }


def request_schemas() -> dict[str, Json]:
    """Each request with its reply, and the envelopes they travel in, by name."""
    documents: dict[str, Json] = {}
    for name, cls in sorted(request.registered().items()):
        documents[name] = {
            "$schema": DRAFT,
            "title": name,
            "description": _first_line(cls),
            "owner": cls.owner,
            "command": cls.command,
            "request": cls.model_json_schema(mode="validation"),
            "reply": cls.reply.model_json_schema(mode="serialization"),
        }
    envelopes = [(RequestEnvelope, "validation"), (ReplyEnvelope, "serialization"), (ProblemDetails, "serialization")]
    _, schema = models_json_schema(envelopes, ref_template="#/$defs/{model}")  # type: ignore[arg-type]
    documents["_envelopes"] = {"$schema": DRAFT, **schema}
    return documents


def asyncapi(version: str) -> Json:
    """AsyncAPI 3.0: what a subscriber to `expressync.events` can receive, one channel a routing key."""
    channels: Json = {}
    operations: Json = {}
    messages: Json = {}
    schemas: Json = {}
    envelope = Envelope.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(envelope.pop("$defs", {}))
    schemas["Envelope"] = envelope
    for (name, number), cls in sorted(event.registered().items()):
        key = f"{name}.{number}"
        payload = cls.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(payload.pop("$defs", {}))
        schemas[key] = payload
        messages[key] = _message(key, name, number, cls)
        channel = channels.setdefault(
            name,
            {
                "address": name,
                "description": f"Told by {cls.owner}.",
                "messages": {},
                "bindings": {
                    "amqp": {
                        "is": "routingKey",
                        "exchange": {"name": "expressync.events", "type": "topic", "durable": True, "vhost": "/"},
                    }
                },
            },
        )
        channel["messages"][key] = {"$ref": f"#/components/messages/{key}"}
        operations[f"receive.{name}"] = {
            "action": "receive",
            "channel": {"$ref": f"#/channels/{name}"},
            "summary": _first_line(cls) or name,
        }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "ExpresSync events",
            "version": version,
            "description": "Bind a queue of your own to the exchange expressync.events; the routing key is the type.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": CONTENT_TYPE,
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": schemas},
    }


def _message(key: str, name: str, number: int, cls: type[Event]) -> Json:
    return {
        "name": key,
        "title": name,
        "summary": _first_line(cls) or name,
        "contentType": CONTENT_TYPE,
        "payload": {
            "allOf": [
                {"$ref": "#/components/schemas/Envelope"},
                {
                    "type": "object",
                    "properties": {
                        "type": {"const": name},
                        "dataschema": {"const": f"{SCHEMA_PREFIX}{name}:{number}"},
                        "data": {"$ref": f"#/components/schemas/{key}"},
                    },
                },
            ]
        },
    }
