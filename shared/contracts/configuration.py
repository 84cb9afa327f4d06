"""What of an operation may be told to others than the charger.

Chargers' configuration holds secrets: `AuthorizationKey` is the password with which a charger signs on (OCPP 1.6
security), and nobody knows what vendors' own keys hold.
"""

from collections.abc import Mapping
from typing import Any, Final

MASKED: Final = "•••"

# OCPP 1.6, chapter 9: what these are set to is no secret. CiString50: case does not matter.
_TOLD_KEYS: Final = frozenset(
    key.lower()
    for key in (
        # 9.1 Core
        "AllowOfflineTxForUnknownId",
        "AuthorizationCacheEnabled",
        "AuthorizeRemoteTxRequests",
        "BlinkRepeat",
        "ClockAlignedDataInterval",
        "ConnectionTimeOut",
        "ConnectorPhaseRotation",
        "ConnectorPhaseRotationMaxLength",
        "GetConfigurationMaxKeys",
        "HeartbeatInterval",
        "LightIntensity",
        "LocalAuthorizeOffline",
        "LocalPreAuthorize",
        "MaxEnergyOnInvalidId",
        "MeterValuesAlignedData",
        "MeterValuesAlignedDataMaxLength",
        "MeterValuesSampledData",
        "MeterValuesSampledDataMaxLength",
        "MeterValueSampleInterval",
        "MinimumStatusDuration",
        "NumberOfConnectors",
        "ResetRetries",
        "StopTransactionOnEVSideDisconnect",
        "StopTransactionOnInvalidId",
        "StopTxnAlignedData",
        "StopTxnAlignedDataMaxLength",
        "StopTxnSampledData",
        "StopTxnSampledDataMaxLength",
        "SupportedFeatureProfiles",
        "SupportedFeatureProfilesMaxLength",
        "TransactionMessageAttempts",
        "TransactionMessageRetryInterval",
        "UnlockConnectorOnEVSideDisconnect",
        "WebSocketPingInterval",
        # 9.2 Local Auth List Management
        "LocalAuthListEnabled",
        "LocalAuthListMaxLength",
        "SendLocalListMaxLength",
        # 9.3 Reservation
        "ReserveConnectorZeroSupported",
        # 9.4 Smart Charging
        "ChargeProfileMaxStackLevel",
        "ChargingScheduleAllowedChargingRateUnit",
        "ChargingScheduleMaxPeriods",
        "ConnectorSwitch3to1PhaseSupported",
        "MaxChargingProfilesInstalled",
    )
)
# The fields of SteVe's forms, but for chargeBoxIdList. SteVe does not read what has another name.
FORMS: Final[Mapping[str, frozenset[str]]] = {
    "GetConfiguration": frozenset({"commaSeparatedCustomConfKeys", "confKeyList"}),
    "ClearCache": frozenset(),
    "RemoteStartTransaction": frozenset({"chargingProfilePk", "connectorId", "idTag"}),
    "RemoteStopTransaction": frozenset({"transactionId"}),
    "UnlockConnector": frozenset({"connectorId"}),
    "Reset": frozenset({"resetType"}),
    "ChangeAvailability": frozenset({"availType", "connectorId"}),
    "ChangeConfiguration": frozenset({"confKey", "customConfKey", "keyType", "value"}),
    "TriggerMessage": frozenset({"connectorId", "triggerMessage"}),
}
_TOLD_PARAMETERS: Final = frozenset[str]().union(*FORMS.values()) - {"value"}


def is_told(key: object) -> bool:
    """Whether the value of this configuration key may be told."""
    return isinstance(key, str) and key.strip().lower() in _TOLD_KEYS


def told_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """An operation's parameters, masked where they may be secret. A value is told where all keys it may be for are."""
    keys = [parameters[name] for name in ("confKey", "customConfKey") if parameters.get(name)]
    told = _TOLD_PARAMETERS | {"value"} if keys and all(is_told(key) for key in keys) else _TOLD_PARAMETERS
    return {name: value if name in told else MASKED for name, value in parameters.items()}


def told_response(response: Mapping[str, Any]) -> dict[str, Any]:
    """A charger's answer, with the values of its configuration masked where they may be secret."""
    keys = response.get("configurationKeys")
    if not isinstance(keys, list):
        return dict(response)
    return {**response, "configurationKeys": [_told_key(one) for one in keys]}


def _told_key(one: object) -> object:
    if not isinstance(one, dict):
        return MASKED
    return one if is_told(one.get("key")) or one.get("value") is None else one | {"value": MASKED}
