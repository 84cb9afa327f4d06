"""What can be made to go wrong, at start and at run time."""

from typing import Literal, get_args

import msgspec

FaultName = Literal[
    "slow",  # value: milliseconds before anything else happens
    "down",  # the connection is closed without an answer
    "5xx",  # value: the status, 500 when left out
    "html",  # 502 with a proxy's HTML page
    "login_redirect",  # 302 to the login page
    "wrong_credentials",  # 401 whatever is sent
    "forbidden",  # 403 whatever is sent
    "not_json",  # 200 with a page, and nothing was carried out
    "garbled_after_commit",  # the request is carried out, then the answer is 200 with a page
    "undecodable_after_commit",  # the request is carried out, then the answer says that it is gzip and is none
    "empty_after_commit",  # the request is carried out, then the answer is 200 without a body
    "drop_after_commit",  # the request is carried out, then the connection is dropped
    "internal_error",  # of OCPP messages: looking the card up fails, and SteVe says Invalid whatever it has on record
    "drop_before",  # the connection is dropped before the request is carried out
]
FAULT_NAMES: tuple[str, ...] = get_args(FaultName)
REST_PATHS = "/steve/api"


class Fault(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One fault. It hits what begins with `path`: a REST path, an OCPP handshake's path
    ("/steve/websocket/..."), or an OCPP message ("ocpp:StartTransaction").

    `methods` restricts it to HTTP methods (empty: all); `times` is how often it still strikes (None: always).
    """

    name: FaultName
    value: int | None = None
    path: str = REST_PATHS
    methods: list[str] = msgspec.field(default_factory=list)
    times: int | None = None


def parse_fault(text: str) -> Fault:
    """Read `NAME`, `NAME=VALUE` or `NAME=VALUE;path=/steve/api;methods=PUT,POST;times=2`.

    ValueError says which part is wrong.
    """
    first, *rest = text.split(";")
    name, _, value = first.partition("=")
    fields: dict[str, object] = {"name": name}
    if value:
        fields["value"] = _number("value", value)
    for part in rest:
        key, _, given = part.partition("=")
        if key == "times":
            fields[key] = _number(key, given)
        elif key == "methods":
            fields[key] = given.upper().split(",")
        else:
            fields[key] = given
    try:
        return msgspec.convert(fields, Fault)
    except msgspec.ValidationError as error:
        raise ValueError(f"{text!r} is no fault ({error}); the names are {', '.join(FAULT_NAMES)}") from error


def _number(key: str, text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"{key} must be a number, not {text!r}")
    return int(text)


class Faults:
    """The faults that are switched on."""

    def __init__(self, faults: list[Fault] | None = None) -> None:
        self.active: list[Fault] = list(faults or [])

    def set(
        self,
        name: FaultName,
        value: int | None = None,
        *,
        path: str = REST_PATHS,
        methods: tuple[str, ...] = (),
        times: int | None = None,
    ) -> None:
        """Switch a fault on, beside those that are on already."""
        self.active.append(Fault(name=name, value=value, path=path, methods=list(methods), times=times))

    def replace(self, faults: list[Fault]) -> None:
        self.active = list(faults)

    def clear(self) -> None:
        self.active = []

    def strike(self, path: str, method: str = "GET") -> dict[FaultName, Fault]:
        """The faults that hit this request, by name; each counts as having struck once."""
        hits: dict[FaultName, Fault] = {}
        for fault in self.active:
            if not path.startswith(fault.path) or (fault.methods and method not in fault.methods):
                continue
            if fault.name in hits or fault.times == 0:
                continue
            if fault.times is not None:
                fault.times -= 1
            hits[fault.name] = fault
        return hits
