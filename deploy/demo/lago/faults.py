"""Ways in which a Lago misbehaves, for some requests, for some time."""

from dataclasses import dataclass
from typing import Final, Self

API: Final = "/api/v1"

NAMES: Final = frozenset(
    {
        "slow",  # value: milliseconds to wait before the request is served
        "down",  # every connection is cut as soon as a request arrives
        "drop_before",  # nothing is stored, the connection is cut
        "drop_after_commit",  # everything is stored, the connection is cut instead of the answer
        "http_500",  # 500 with Lago's JSON body
        "http_503",  # 503 with a plain text body
        "html_502",  # a reverse proxy's 502 page
        "empty_5xx",  # value: the status; no body
        "login_redirect",  # 302 to an HTML page, as a proxy with single sign-on answers
        "http_401",  # as if the key were wrong
        "http_403",  # as if the key lacked a permission
        "no_route",  # 404 as for an address it does not have, or as a gateway answers that leads elsewhere
        "not_json",  # 200 with a page
        "http_429",  # value: X-RateLimit-Reset in seconds; as if the limit were used up
    }
)
_NUMBERED: Final = {"slow": 1000, "empty_5xx": 502, "http_429": 1}


class UnknownFaultError(ValueError):
    def __init__(self, name: str) -> None:
        super().__init__(f"No fault is called {name!r}. There are: {', '.join(sorted(NAMES))}.")


@dataclass(slots=True, kw_only=True)
class Fault:
    """One fault, for paths that start with `path`, for the next `count` requests (None: until cleared)."""

    name: str
    value: int = 0
    path: str = API
    method: str | None = None
    count: int | None = None

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise UnknownFaultError(self.name)
        if self.value == 0:
            self.value = _NUMBERED.get(self.name, 1)

    @classmethod
    def parse(cls, text: str) -> Self:
        """`slow=800`, `drop_after_commit=1,path=/api/v1/events,count=2,method=POST`.

        Raises:
            ValueError: an unknown name or option, or a value that is no number.

        """
        first, *rest = text.split(",")
        name, _, value = first.partition("=")
        fault = cls(name=name.strip(), value=int(value or 0))
        for part in rest:
            option, _, setting = part.strip().partition("=")
            if option == "path":
                fault.path = setting
            elif option == "method":
                fault.method = setting.upper()
            elif option == "count":
                fault.count = int(setting)
            else:
                raise ValueError(f"A fault has path, method and count, not {option!r}: {text!r}")
        return fault

    def meets(self, method: str, path: str) -> bool:
        return path.startswith(self.path) and self.method in (None, method)


class FaultControl:
    """The faults in force. Changed from a test or through `POST /_sim/faults`, at any time."""

    def __init__(self, faults: tuple[Fault, ...] = ()) -> None:
        self._faults: list[Fault] = list(faults)

    def add(
        self, name: str, value: int = 0, *, path: str = API, method: str | None = None, count: int | None = None
    ) -> Fault:
        """Put one fault in force from the next request on."""
        fault = Fault(name=name, value=value, path=path, method=method, count=count)
        self._faults.append(fault)
        return fault

    def clear(self, name: str | None = None) -> None:
        """End all faults, or all of one name."""
        self._faults = [] if name is None else [fault for fault in self._faults if fault.name != name]

    def in_force(self) -> list[Fault]:
        return list(self._faults)

    def take(self, method: str, path: str) -> list[Fault]:
        """The faults this request meets, one of each name; uses up their counts."""
        met: dict[str, Fault] = {}
        for fault in self._faults:
            if fault.name not in met and fault.meets(method, path):
                met[fault.name] = fault
        for fault in met.values():
            if fault.count is not None:
                fault.count -= 1
        self._faults = [fault for fault in self._faults if fault.count is None or fault.count > 0]
        return list(met.values())
