"""`expressync card`, `charger`, `kiosk` and `interception`."""

from typing import Any
from uuid import UUID

import pytest

from shared.contracts.problem import Conflict, NotFound
from shared.contracts.request import Request
from shared.contracts.requests.preauth import (
    ChargerPage,
    ChargerQr,
    EnrolKiosk,
    GetCharger,
    InterceptionState,
    KioskEnrolment,
    KioskList,
    ListChargers,
    ListKiosks,
    PinState,
    PrintChargerQr,
    RevokeKiosk,
    SetCardPin,
    SwitchInterception,
)
from shared.contracts.requests.sync import GetCard, OperateCharger, OperationResult
from shared.contracts.requests.sync_cards import (
    BlockCard,
    ChangeCard,
    ChangeParent,
    CreateCard,
    SetExpiry,
    UnblockCard,
    UndoChange,
    UnlinkCard,
)
from tests.integration.services.admin_api.commands import Cli, three_lines
from tests.integration.services.admin_api.scene import CARD, all_is_well
from tests.unit.services.admin_api.diagnosis import cases, things
from tests.unit.services.admin_api.diagnosis.cases import AN_ID, NOW

CHANGED = cases.known(last_change_id=AN_ID)


@pytest.mark.parametrize(
    ("arguments", "request_", "sent"),
    [
        (("block", CARD, "--reason", "lost"), BlockCard, {"id_tag": CARD, "reason": "lost"}),
        (("unblock", CARD, "--limit", "2"), UnblockCard, {"limit": 2}),
        (("parent", CARD, "META"), ChangeParent, {"parent_id_tag": "META"}),
        (("parent", CARD, "--none"), ChangeParent, {"parent_id_tag": None}),
        (("expiry", CARD, "--never"), SetExpiry, {"expiry": None}),
        (("expiry", CARD, "2027-01-01T00:00+00:00"), SetExpiry, {"expiry": "2027-01-01T00:00:00Z"}),
        (("unlink", CARD), UnlinkCard, {"valid_to": None}),
        (("set", CARD, "--name", "", "--inactive"), ChangeCard, {"changes": {"display_name": "", "active": False}}),
        (("create", "04ff", "--limit", "-1", "--type", "app"), CreateCard, {"id_tag": "04ff", "card_type": "app"}),
    ],
)
async def test_a_card_is_changed_and_shown_with_its_undo(
    cli: Cli, arguments: tuple[str, ...], request_: type[Request[Any]], sent: dict[str, Any]
) -> None:
    """Exactly what was meant is asked; the card is shown as it then is, and how to take it back."""
    cli.house.owners.answer(request_, CHANGED)
    ended = await cli("card", *arguments)
    assert ended.code == 0, ended.err
    assert ended.lines[0] == ["card", CARD]
    assert f"`expressync card undo {CARD}` takes it back." in ended.err
    (asked,) = cli.house.owners.requests(request_)
    assert {name: asked.data[name] for name in sent} == sent


@pytest.mark.parametrize(
    "arguments",
    [("expiry", CARD), ("expiry", CARD, "now", "--never"), ("parent", CARD), ("set", CARD), ("expiry", CARD, "soon")],
)
async def test_a_change_that_is_not_clear_is_not_made(cli: Cli, arguments: tuple[str, ...]) -> None:
    """Exit 2 and three lines; `expiry CARD now` is never taken for "never"."""
    ended = await cli("card", *arguments)
    assert ended.code == 2
    three_lines(ended)
    assert cli.house.owners.asked == []


async def test_a_refusal_is_a_finding_in_the_owners_words(cli: Cli) -> None:
    """What, why and what to do; exit 1."""

    class NotBlocked(Conflict):
        code, title = "not_blocked", "The card is not blocked"

    cli.house.owners.answer(UnblockCard, NotBlocked("SteVe accepts it; there is nothing to lift."))
    ended = await cli("card", "unblock", CARD)
    assert (ended.code, three_lines(ended)[1]) == (1, "SteVe accepts it; there is nothing to lift.")


async def test_a_block_that_steve_does_not_have_is_not_said_to_be_one(cli: Cli) -> None:
    """Who wanted it and why stand beside the limit that SteVe has."""
    block = {"block_kind": "operator", "block_reason": "stolen", "blocked_by": "ada"}
    cli.house.owners.answer(ChangeCard, cases.known(**block))
    ended = await cli("card", "set", CARD, "--inactive")
    limit = "1 session at once; ada wanted it blocked (stolen), and SteVe does not have it so"
    assert ["limit", limit] in ended.lines
    cli.house.owners.answer(ChangeCard, cases.known(steve=cases.blocked_tag(), **block))
    ended = await cli("card", "set", CARD, "--inactive")
    assert ["limit", "0 (blocked), blocked by ada: stolen"] in ended.lines


async def test_the_last_change_is_undone_or_another(cli: Cli) -> None:
    """The card says which was last; without one there is nothing to undo."""
    all_is_well(cli.house.owners)
    cli.house.owners.answer(GetCard, CHANGED)
    cli.house.owners.answer(UndoChange, cases.known())
    assert (await cli("card", "undo", CARD)).code == 0
    other = UUID(int=7)
    assert (await cli("card", "undo", CARD, "--change", str(other))).code == 0
    assert [asked.data["change_id"] for asked in cli.house.owners.requests(UndoChange)] == [str(AN_ID), str(other)]
    cli.house.owners.answer(GetCard, cases.known())
    ended = await cli("card", "undo", CARD)
    assert (ended.code, three_lines(ended)[0]) == (1, f"{CARD} has no change to undo.")


async def test_a_pin_comes_from_stdin_and_stands_nowhere(cli: Cli) -> None:
    """Not among the arguments, where others on the machine could read it, nor in the output."""
    cli.house.owners.answer(SetCardPin, PinState(id_tag=CARD, has_pin=True))
    ended = await cli("card", "pin", CARD, stdin="123456\n")
    assert (ended.code, "123456" in ended.out + ended.err) == (0, False)
    await cli("card", "pin", CARD, "--clear")
    assert [asked.data["pin"] for asked in cli.house.owners.requests(SetCardPin)] == ["123456", None]


async def test_chargers_are_listed_and_shown(cli: Cli) -> None:
    """Connection, connectors, tap-to-login; offline or faulted is exit 1, and one that nobody knows exit 1 too."""
    owners = cli.house.owners
    owners.answer(ListChargers, ChargerPage(chargers=[things.charger()]))
    (line,) = (await cli("charger", "list", "CP", "--connected")).lines
    assert line[:4] == ["CP-7", "connected, through the gateway", "1 Available", "yes"]
    assert owners.requests(ListChargers)[0].data["connected"] is True
    owners.answer(GetCharger, things.charger())
    assert (await cli("charger", "show", "CP/7 ü")).code == 0
    assert owners.requests(GetCharger)[0].data["charge_box_id"] == "CP/7 ü"
    owners.answer(
        GetCharger, things.charger(connectors=[things.connector(status="Faulted", error_code="GroundFailure")])
    )
    faulted = await cli("charger", "show", "CP-7")
    assert (faulted.code, faulted.lines[-1][:3]) == (1, ["1", "Faulted", "GroundFailure"])
    owners.answer(GetCharger, things.charger(connected=False, disconnected_at=NOW))
    assert (await cli("charger", "show", "CP-7", "--json")).code == 1
    owners.answer(GetCharger, NotFound("No charger 'CP-0' was ever seen."))
    assert (await cli("charger", "show", "CP-0")).code == 1


def result(outcome: str, **fields: Any) -> OperationResult:  # noqa: ANN401
    plain = {"charge_box_id": "CP-7", "operation": "Reset", "outcome": outcome, "asked_at": NOW}
    return OperationResult.model_validate(plain | fields)


async def test_a_charger_is_operated_once(cli: Cli) -> None:
    """Parameters as text or JSON; the exit code says what became of it, and no answer is not asked about again."""
    owners = cli.house.owners
    owners.answer(OperateCharger, result("accepted", response={"status": "Accepted"}))
    form = ["availType=Inoperative", "connectorId:=1"]
    ended = await cli("charger", "operate", "CP-7", "ChangeAvailability", *form)
    assert (ended.code, ended.lines[-1]) == (0, ["status", "Accepted"])
    assert owners.requests(OperateCharger)[0].data["parameters"] == {"availType": "Inoperative", "connectorId": 1}
    owners.answer(OperateCharger, result("not_connected", problem="SteVe says it is not connected."))
    assert (await cli("charger", "operate", "CP-7", "Reset")).code == 1
    owners.answer(OperateCharger, result("unknown"))
    assert (await cli("charger", "operate", "CP-7", "Reset")).code == 3
    assert len(owners.requests(OperateCharger)) == 3
    assert (await cli("charger", "operate", "CP-7", "Reset", "Soft")).code == 2
    assert len(owners.requests(OperateCharger)) == 3


async def test_a_charger_is_given_a_secret_that_is_not_repeated_on_the_screen(cli: Cli) -> None:
    """What is going to be done is asked about without the password that goes to the charger."""
    cli.house.owners.answer(OperateCharger, result("accepted", operation="ChangeConfiguration"))
    form = ["keyType=CUSTOM", "customConfKey=AuthorizationKey", "value=pa55word"]
    ended = await cli.on_terminal("charger", "operate", "CP-7", "ChangeConfiguration", *form, stdin="y\n")
    assert ended.code == 0
    assert "customConfKey=AuthorizationKey value=•••" in ended.err.replace("\n", " ")
    assert "pa55word" not in ended.out + ended.err
    # Others on the machine can read a command line, and nobody else's stdin or file.
    (cli.folder / "secret").write_text("pa55word\n")
    for given in ("@-", f"@{cli.folder / 'secret'}"):
        form[-1] = f"value={given}"
        ended = await cli("charger", "operate", "CP-7", "ChangeConfiguration", *form, stdin="pa55word\n")
        assert (ended.code, "pa55word" in ended.out + ended.err) == (0, False)
    asked = cli.house.owners.requests(OperateCharger)
    assert [one.data["parameters"]["value"] for one in asked] == ["pa55word"] * 3
    # A question could not be answered any more: what answers it would be read as the value.
    form[-1] = "value=@-"
    ended = await cli.on_terminal("charger", "operate", "CP-7", "ChangeConfiguration", *form, stdin="pa55word\n")
    assert (ended.code, three_lines(ended)[2]) == (2, "Add --yes, or give the value in a file. Nothing was done.")
    ended = await cli.on_terminal("charger", "operate", "CP-7", "ChangeConfiguration", *form, "--yes", stdin="new\n")
    assert ended.code == 0
    assert [one.data["parameters"]["value"] for one in cli.house.owners.requests(OperateCharger)[3:]] == ["new"]
    nowhere = await cli("charger", "operate", "CP-7", "ChangeConfiguration", "value=@/nowhere")
    assert (nowhere.code, three_lines(nowhere)[0]) == (2, "'/nowhere' cannot be read.")


async def test_a_qr_code_is_an_address_or_svg(cli: Cli) -> None:
    """The address for people, the SVG alone on stdout for a file."""
    made = ChargerQr(charge_box_id="CP-7", address="https://x/scan/s", svg="<svg/>", rotated_at=NOW)
    cli.house.owners.answer(PrintChargerQr, made)
    assert ["address", "https://x/scan/s"] in (await cli("charger", "qr", "CP-7")).lines
    assert (await cli("charger", "qr", "CP-7", "--svg")).out == "<svg/>\n"


async def test_a_kiosk_is_enrolled_listed_and_revoked(cli: Cli) -> None:
    """The code alone is on stdout; a kiosk is revoked by its name where only one has it."""
    owners = cli.house.owners
    owners.answer(EnrolKiosk, KioskEnrolment(kiosk=things.kiosk(), code="K7QX-2M9P", code_expires_at=NOW))
    ended = await cli("kiosk", "enrol", "Hall 2", "CP-7", "CP-8")
    assert (ended.code, ended.out) == (0, "K7QX-2M9P\n")
    assert "/kiosk" in ended.err
    # As it is kept, for who asks again because the first answer was lost.
    owners.answer(EnrolKiosk, KioskEnrolment(kiosk=things.kiosk(), code=None, code_expires_at=NOW))
    lost = await cli("kiosk", "enrol", "Hall 2", "CP-7")
    assert (lost.code, lost.out) == (3, "")
    assert f"kiosk revoke {AN_ID}" in lost.err
    owners.answer(ListKiosks, KioskList(kiosks=[things.kiosk(), things.kiosk(kiosk_id=UUID(int=9), state="revoked")]))
    assert (await cli("kiosk", "list")).lines[0][1:4] == ["Hall 2", "CP-7, CP-8", "waiting"]
    owners.answer(RevokeKiosk, things.kiosk(state="revoked"))
    assert (await cli("kiosk", "revoke", "Hall 2")).code == 0
    assert owners.requests(RevokeKiosk)[0].data["kiosk_id"] == str(AN_ID)
    assert (await cli("kiosk", "revoke", "nobody")).code == 1


async def test_interception_is_switched(cli: Cli) -> None:
    """Off everywhere or at one charger, and on again; where it is off stands in the answer."""
    owners = cli.house.owners
    owners.answer(SwitchInterception, InterceptionState(everywhere=True, off_at=["CP-7"]))
    ended = await cli("interception", "off", "--charger", "CP-7", "--why", "noise")
    assert (ended.code, ended.lines) == (0, [["everywhere", "on"], ["CP-7", "off"]])
    await cli("interception", "on")
    first, second = owners.requests(SwitchInterception)
    assert (first.data["on"], first.data["charge_box_id"], first.data["why"]) == (False, "CP-7", "noise")
    assert (second.data["on"], second.data["charge_box_id"]) == (True, None)
