"""Lago's errors by index."""

import pytest

from services.sync.lago.client import BatchRefused, read_batch_errors

DUPLICATE = {"transaction_id": ["value_already_exist"]}


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ({"0": DUPLICATE, "3": DUPLICATE}, BatchRefused(frozenset({0, 3}))),
        ({"1": {"code": ["value_is_mandatory"]}}, BatchRefused(wrong={1: "{'code': ['value_is_mandatory']}"})),
        ({"0": "expression_evaluation_failed: x"}, BatchRefused(wrong={0: "expression_evaluation_failed: x"})),
        (
            {"2": {**DUPLICATE, "timestamp": ["invalid_format"]}},
            BatchRefused(wrong={2: "{'transaction_id': ['value_already_exist'], 'timestamp': ['invalid_format']}"}),
        ),
        ({"events": ["no_events"]}, None),
        ({"7": DUPLICATE}, None),
        ({}, None),
    ],
)
def test_errors_are_read_by_their_index(details: dict[str, object], expected: BatchRefused | None) -> None:
    """Exactly the duplicate's error is a duplicate; all else is wrong; what is not by index is no batch's error."""
    assert read_batch_errors(details, 5) == expected
