"""The configuration keys of a charger (OCPP 1.6, chapter 9), as far as they change what it does."""

from dataclasses import dataclass


@dataclass
class Key:
    value: str
    readonly: bool = False


# What a charger is delivered with: everything asks the central system.
DEFAULTS: dict[str, Key] = {
    "AllowOfflineTxForUnknownId": Key("false"),
    "AuthorizationCacheEnabled": Key("false"),
    "AuthorizeRemoteTxRequests": Key("true", readonly=True),
    "ConnectionTimeOut": Key("60"),
    "GetConfigurationMaxKeys": Key("100", readonly=True),
    "HeartbeatInterval": Key("300"),
    "LocalAuthListEnabled": Key("false"),
    "LocalAuthListMaxLength": Key("1000", readonly=True),
    "LocalAuthorizeOffline": Key("false"),
    "LocalPreAuthorize": Key("false"),
    "MeterValueSampleInterval": Key("60"),
    "NumberOfConnectors": Key("2", readonly=True),
    "ReserveConnectorZeroSupported": Key("false", readonly=True),
    "SendLocalListMaxLength": Key("100", readonly=True),
    "StopTransactionOnInvalidId": Key("true"),
    "SupportedFeatureProfiles": Key("Core,LocalAuthListManagement,RemoteTrigger,Reservation", readonly=True),
}


class Configuration:
    def __init__(self, connectors: int, overrides: dict[str, str] | None = None) -> None:
        """`overrides` replaces values, also of read-only keys: it is how the charger left the factory."""
        self._keys = {name: Key(key.value, key.readonly) for name, key in DEFAULTS.items()}
        self._keys["NumberOfConnectors"].value = str(connectors)
        for name, value in (overrides or {}).items():
            self._keys.setdefault(name, Key("")).value = value

    def is_on(self, name: str) -> bool:
        return self._keys[name].value.lower() == "true"

    def number(self, name: str) -> int:
        return int(self._keys[name].value)

    def read(self, names: list[str]) -> tuple[list[dict[str, object]], list[str]]:
        """GetConfiguration: known keys and names of unknown ones; no names means all."""
        wanted = names or list(self._keys)
        known = [
            {"key": name, "readonly": self._keys[name].readonly, "value": self._keys[name].value}
            for name in wanted
            if name in self._keys
        ]
        return known, [name for name in wanted if name not in self._keys]

    def change(self, name: str, value: str) -> str:
        """ChangeConfiguration: the status to answer."""
        key = self._keys.get(name)
        if key is None:
            return "NotSupported"
        if key.readonly or (key.value.isdecimal() and not value.isdecimal()):
            return "Rejected"
        key.value = value
        return "Accepted"
