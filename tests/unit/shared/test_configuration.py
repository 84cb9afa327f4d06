"""What of an operation is told to others than the charger."""

from typing import Any

import pytest

from shared.contracts.configuration import MASKED, told_parameters, told_response


@pytest.mark.parametrize(
    ("parameters", "masked"),
    [
        ({"keyType": "PREDEFINED", "confKey": "HeartbeatInterval", "value": "300"}, set()),
        ({"keyType": "CUSTOM", "customConfKey": " localpreauthorize", "value": "false"}, set()),
        ({"keyType": "CUSTOM", "customConfKey": "AuthorizationKey", "value": "x"}, {"value"}),
        # Whichever of the two SteVe takes.
        ({"keyType": "CUSTOM", "confKey": "HeartbeatInterval", "customConfKey": "Vendor", "value": "x"}, {"value"}),
        ({"confKey": "", "customConfKey": None, "value": "x"}, {"value"}),
        ({"confKey": ["HeartbeatInterval"], "value": "x"}, {"value"}),
        ({"idTag": "04A1", "connectorId": 1}, set()),
        ({"resetType": "Soft", "password": "x", "Value": {"a": "x"}}, {"password", "Value"}),
        ({}, set()),
    ],
)
def test_only_what_is_known_to_be_harmless_is_told(parameters: dict[str, Any], masked: set[str]) -> None:
    """A value by its key, all else by the names in SteVe's forms; to mask twice is to mask once."""
    told = told_parameters(parameters)
    assert {name for name, value in told.items() if value == MASKED} == masked
    assert told_parameters(told) == told == parameters | dict.fromkeys(masked, MASKED)


def test_an_answer_without_configuration_is_told_as_it_is() -> None:
    """A status is no secret, an empty value neither, and what has no form is masked whole."""
    assert told_response({"status": "Accepted"}) == {"status": "Accepted"}
    odd = {"configurationKeys": [{"key": "V", "value": None}, {"value": "x"}, "x"], "unknownKeys": ["U"]}
    keys = [{"key": "V", "value": None}, {"value": MASKED}, MASKED]
    assert told_response(odd) == {"configurationKeys": keys, "unknownKeys": ["U"]}
