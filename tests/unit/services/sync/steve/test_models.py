"""What SteVe's readings mean."""

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from services.sync.steve.client import SteveVersion
from services.sync.steve.models import HIGHEST_PK, MeterValue, Tag, TagForm, Transaction, read_wh


@pytest.mark.parametrize(
    ("text", "wh"),
    [
        ("1234", 1234),
        ("1234.9", 1234),
        ("-5", -5),
        (" 7 ", 7),
        ("", None),
        ("full", None),
        ("NaN", None),
        ("9e20", None),
    ],
)
def test_a_reading_is_whole_wh_or_nothing(text: str, wh: int | None) -> None:
    """Stations report whatever they like; what is no number is not guessed."""
    assert read_wh(text) == wh


@pytest.mark.parametrize(
    ("measurand", "unit", "phase", "value", "wh"),
    [
        (None, None, None, "1500", 1500),
        ("Energy.Active.Import.Register", "kWh", None, "1.5", 1500),
        ("Energy.Active.Import.Register", "Wh", "L1", "1500", None),
        ("Power.Active.Import", "W", None, "1500", None),
        (None, "varh", None, "1500", None),
        (None, "Wh", None, "1e3", None),
    ],
)
def test_only_the_whole_register_counts(
    measurand: str | None, unit: str | None, phase: str | None, value: str, wh: int | None
) -> None:
    """The import register of all phases, in Wh or kWh; without a measurand a value is that (OCPP 1.6, 7.42)."""
    reading = MeterValue(
        value_timestamp=datetime(2026, 5, 1, tzinfo=UTC), value=value, measurand=measurand, unit=unit, phase=phase
    )
    assert reading.register_wh() == wh


@pytest.mark.parametrize("pk", [0, -1, HIGHEST_PK + 1])
def test_an_id_that_steve_cannot_have_is_no_transaction(pk: int) -> None:
    """It is a fault of what answers, with a name, before anything goes by it."""
    given = {"id": 1, "connectorId": 1, "chargeBoxId": "CP", "ocppIdTag": "A", "startValue": "0"}
    given["startTimestamp"] = "2026-05-01T09:00:00Z"
    assert Transaction.model_validate(given).pk == 1
    with pytest.raises(ValidationError, match="id"):
        Transaction.model_validate(given | {"id": pk})


def test_a_record_is_told_with_all_that_steve_gives() -> None:
    """Also the keys that mean something in SteVe's own pages only."""
    given = {"ocppTagPk": 7, "idTag": "A", "userPk": 41, "parentOcppTagPk": 12, "maxActiveTransactionCount": 1}
    told = Tag.model_validate(given).view()
    assert (told.ocpp_tag_pk, told.user_pk, told.parent_ocpp_tag_pk) == (7, 41, 12)


def test_the_form_of_a_tag_has_every_field() -> None:
    """What is left out of a PUT is erased, so nothing is."""
    tag = Tag(
        ocpp_tag_pk=1,
        id_tag="A",
        parent_id_tag="P",
        expiry_date=datetime(2027, 1, 1, tzinfo=UTC),
        max_active_transaction_count=3,
        note="n",
    )
    assert set(TagForm.of(tag).model_dump(by_alias=True)) == {
        "idTag",
        "parentIdTag",
        "expiryDate",
        "maxActiveTransactionCount",
        "note",
    }


def test_releases_are_compared_as_numbers() -> None:
    """3.10 is newer than 3.9."""
    assert SteveVersion.parse("3.10") > SteveVersion.parse("3.9")
    assert not SteveVersion.parse("3.10").takes_lists
    assert SteveVersion.parse("3.11.0").takes_lists
    with pytest.raises(ValueError, match="no SteVe release"):
        SteveVersion.parse("latest")
