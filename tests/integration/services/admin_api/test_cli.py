"""The command line as its users have it: a process with a terminal or a pipe, an environment and an exit code."""

import asyncio
import json
import stat
from datetime import datetime, timedelta
from pathlib import Path
from uuid import uuid4

from shared.contracts.problem import NotFound
from shared.contracts.requests.audit import EntryPage, SearchEntries
from shared.contracts.requests.preauth import (
    ArmPairing,
    CancelPairing,
    GapView,
    ListPairings,
    PairingList,
    SearchTaps,
    TapPage,
)
from shared.contracts.requests.sync import (
    GetCard,
    GetSubscription,
    LinkCard,
    LinkView,
    ReadCardInSteve,
    SearchCards,
    SearchSessions,
    SessionPage,
)
from shared.contracts.requests.sync_cards import PreviewLink, RelinkCard
from tests.integration.services.admin_api import scene
from tests.integration.services.admin_api.commands import Cli, three_lines
from tests.integration.services.admin_api.scene import CARD, all_is_well
from tests.integration.services.admin_api.stubs import Silence
from tests.integration.services.admin_api.support import OWN_PASSWORD, House
from tests.unit.services.admin_api.diagnosis import cases
from tests.waiting import until


async def test_diagnose_ends_with_0_1_or_3(cli: Cli) -> None:
    """0 fine, 1 a finding, 3 when somebody could not be asked; the verdict comes first."""
    all_is_well(cli.house.owners)
    fine = await cli("diagnose", CARD)
    assert fine.code == 0, fine.err
    assert fine.out.splitlines()[1].startswith("verdict\tfine\t")
    assert ["evidence", "linked", "lago"] in [line[:3] for line in fine.lines]
    assert fine.lines[2][:2] == ["decided by", "steve"]
    cli.house.owners.answer(SearchSessions, SessionPage(sessions=[]))
    unseen = await cli("diagnose", CARD, "--charger", "CP-7", "--at", "2026-05-01T09:30")
    assert (unseen.code, unseen.lines[1][1]) == (1, "charger_not_known")
    cli.house.owners.answer(ReadCardInSteve, scene.blocked_in_steve())
    assert (await cli("diagnose", CARD)).code == 1
    cli.house.owners.silence(ReadCardInSteve)
    assert (await cli("diagnose", CARD)).code == 3


async def test_diagnose_as_json_is_the_contract(cli: Cli) -> None:
    """Exactly card, verdict and checks."""
    all_is_well(cli.house.owners)
    made = (await cli("diagnose", CARD, "--json")).json
    assert isinstance(made, dict)
    assert set(made) == {"card", "verdict", "checks"}
    assert [check["id"] for check in made["checks"]] == ["valid_in_steve", "linked", "intercepted", "charger"]


async def test_diagnose_takes_a_name_when_it_is_one_card(cli: Cli) -> None:
    """The runbook starts from a name too; it says which card that is."""
    all_is_well(cli.house.owners)
    ended = await cli("diagnose", "ada")
    assert ended.out.startswith(f"card\t{CARD}\n")
    assert f"ada is {CARD}" in ended.err


async def test_lists_are_lines_with_tabs_when_piped(cli: Cli) -> None:
    """No header, no frame, no colour: for cut and grep; energy in kWh."""
    all_is_well(cli.house.owners)
    sessions = await cli("sessions", "--card", CARD)
    assert (sessions.code, len(sessions.out.splitlines())) == (0, 1)
    fields = sessions.out.rstrip("\n").split("\t")
    assert fields[1:4] == [CARD, "CP-7 /1", "12.4"]
    assert "\x1b" not in sessions.out
    cards = await cli("cards", "list", "--json")
    assert isinstance(cards.json, list)
    assert (await cli("cards", "show", CARD)).out.startswith(f"card\t{CARD}\n")
    cli.house.owners.answer(GetCard, cases.known(ancestors=["META", "TOP"], parent_cycle=True))
    circle = "parents\tin a circle, which is not followed: META → TOP and round again\n"
    assert circle in (await cli("cards", "show", CARD)).out
    above = {CARD: cases.known(link=None, ancestors=["META"]), "META": cases.known(id_tag="META")}
    cli.house.owners.answer(GetCard, lambda request: above[request.id_tag])
    assert "linked\tada → sub_fleet, through META\n" in (await cli("cards", "show", CARD)).out


async def test_what_a_charger_sent_cannot_steer_the_terminal(cli: Cli) -> None:
    """Control characters in names are shown as what they are not: harmless."""
    cli.house.owners.answer(SearchTaps, TapPage(taps=[cases.tap(charge_box_id="CP\x1b[2J\n7")]))
    ended = await cli("taps")
    assert "\x1b" not in ended.out
    assert len(ended.out.splitlines()) == 1


async def test_cards_are_linked(cli: Cli) -> None:
    """One that is linked to somebody already is relinked where that is said. A local date is sent as an instant; piped,
    nobody is asked, and it is said all the same what the link changes.
    """
    all_is_well(cli.house.owners)
    current = LinkView(
        external_customer_id="bob",
        external_subscription_id="sub_b",
        valid_from=cases.ago(days=9),
        valid_to=None,
        linked_by="mia",
    )
    told = {"current": current, "children": ["LOW"], "open_sessions": ["main:7"], "sessions_that_stay": 2}
    cli.house.owners.answer(PreviewLink, lambda request: scene.preview(request, **told))
    cli.house.owners.answer(RelinkCard, cases.known(link=current))
    command = ["cards", "link", CARD, "--customer", "eve", "--subscription", "sub_e", "--from", "2026-05-01", "--json"]
    command += ["--release-from", "2026-04-01"]
    refused = await cli(*command, "--yes")
    assert refused.code == 1
    assert f"Card {CARD} is linked already." in refused.err
    assert cli.house.owners.requests(RelinkCard) == []
    ended = await cli(*command, "--relink")
    assert ended.code == 0, ended.err
    assert cli.house.owners.requests(LinkCard) == []
    (asked,) = cli.house.owners.requests(RelinkCard)
    assert (asked.data["external_customer_id"], asked.data["external_subscription_id"]) == ("eve", "sub_e")
    assert asked.data["valid_from"] is not None
    assert asked.data["release_from"] < asked.data["valid_from"]
    for sentence in (
        "UTC, new sessions are billed to eve, subscription sub_e.",
        "Until then it stays linked to bob, subscription sub_b.",
        "1 session running now stays with its owner.",
        "2 sessions of that time belong to somebody already, and stay.",
        "New sessions of 1 card below it, which have no link of their own, follow.",
        "Release and bill 3 held sessions that began since",
    ):
        assert sentence in ended.err
    await cli("cards", "link", CARD, "--customer", "bob", "--subscription", "sub_b")
    assert len(cli.house.owners.requests(LinkCard)) == len(cli.house.owners.requests(RelinkCard)) == 1


async def test_an_unknown_outcome_is_asked_about_again_with_the_same_key(cli: Cli) -> None:
    """The first try gets no answer: the command repeats it under its key instead of doing it twice."""
    seen: list[object] = []

    def once_silent(request: LinkCard) -> object:
        seen.append(request)
        if len(seen) == 1:
            raise Silence
        return cases.known()

    cli.house.owners.answer(LinkCard, once_silent)
    ended = await cli("cards", "link", CARD, "--customer", "ada", "--subscription", "s", "--yes")
    assert ended.code == 0, ended.err
    first, second = cli.house.owners.requests(LinkCard)
    assert first.idempotency_key == second.idempotency_key


async def test_taps_are_followed_as_they_come(cli: Cli) -> None:
    """Each tap once, as it appears, until the process is interrupted, which is its regular end."""
    first = cases.tap(tapped_at=scene.now(), tap_id=uuid4())
    cli.house.owners.answer(SearchTaps, TapPage(taps=[first]))
    process = await cli.start_anew("taps", "--follow", "--json")
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), 20)
    assert json.loads(line)["tap_id"] == str(first.tap_id)
    second = cases.tap(tapped_at=scene.now(), tap_id=uuid4(), charge_box_id="CP-9")
    cli.house.owners.answer(SearchTaps, TapPage(taps=[second, first]))
    line = await asyncio.wait_for(process.stdout.readline(), 20)
    assert json.loads(line)["charge_box_id"] == "CP-9"
    process.send_signal(2)
    out, err = await asyncio.wait_for(process.communicate(), 20)
    assert (process.returncode, out, err) == (0, b"", b"")


async def test_taps_are_followed_through_an_outage(cli: Cli) -> None:
    """Preauth is silent for a few looks: that is said once, and what came meanwhile is shown as soon as it answers."""
    first, second = (cases.tap(tapped_at=scene.now(), tap_id=uuid4()) for _ in range(2))
    cli.house.owners.answer(SearchTaps, TapPage(taps=[first]))
    process = await cli.start("taps", "--follow", "--json")
    assert process.stdout is not None
    await asyncio.wait_for(process.stdout.readline(), 20)
    looks = iter(range(2))

    def silent_twice(_: object) -> TapPage:
        if next(looks, None) is not None:
            raise Silence
        return TapPage(taps=[second, first])

    cli.house.owners.answer(SearchTaps, silent_twice)
    line = await asyncio.wait_for(process.stdout.readline(), 20)
    process.send_signal(2)
    out, err = await asyncio.wait_for(process.communicate(), 20)
    assert err.count(b"keeps asking") == 1, err
    assert (json.loads(line)["tap_id"], process.returncode, out) == (str(second.tap_id), 0, b"")


async def test_taps_are_searched_by_what_is_in_the_journal(cli: Cli) -> None:
    """Time, pairing, reason and what was told go to the journal; what came of each tap, and gaps, are told in words."""
    began = cases.tap(session="steve:7", session_outcome="began")
    ignored = cases.intercepted_tap(override_outcome="ignored")
    gap = GapView(first_at=cases.ago(hours=2), last_at=cases.ago(hours=1), taps=3, why="The spool was full.")
    cli.house.owners.answer(SearchTaps, TapPage(taps=[began, ignored], gaps=[gap]))
    sought = ["--pairing", str(cases.AN_ID), "--reason", "matched", "--told", "blocked", "--since", "2026-05-01T00:00Z"]
    ended = await cli("taps", *sought, "--until", "2026-05-02T00:00Z")
    assert ended.code == 0, ended.err
    (asked,) = cli.house.owners.requests(SearchTaps)
    data = asked.data
    assert (data["pairing_id"], data["reason"], data["told"]) == (str(cases.AN_ID), "matched", "blocked")
    assert (data["since"][:10], data["until"][:10]) == ("2026-05-01", "2026-05-02")
    assert "Session steve:7 began." in ended.out
    assert "ignored that and charged" in ended.out
    assert "3 taps in no journal. The spool was full." in ended.err
    assert (await cli("taps", "--since", "yesterday")).code == 2


async def test_taps_are_followed_by_the_journals_clock(cli: Cli) -> None:
    """A clock of this machine that is wrong misses nothing, and a tap that is written late comes late."""
    first = cases.tap(tapped_at=cases.ago(days=3), tap_id=uuid4())
    cli.house.owners.answer(SearchTaps, TapPage(taps=[first]))
    process = await cli.start("taps", "--follow", "--json")
    assert process.stdout is not None
    await asyncio.wait_for(process.stdout.readline(), 20)
    replayed = cases.tap(tapped_at=first.tapped_at - timedelta(minutes=5), tap_id=uuid4())
    cli.house.owners.answer(SearchTaps, TapPage(taps=[first, replayed]))
    line = await asyncio.wait_for(process.stdout.readline(), 20)
    assert json.loads(line)["tap_id"] == str(replayed.tap_id)
    since = cli.house.owners.requests(SearchTaps)[-1].data["since"]
    assert datetime.fromisoformat(since) < replayed.tapped_at
    process.send_signal(2)
    await asyncio.wait_for(process.communicate(), 20)


async def test_a_followed_tap_is_shown_with_its_answer(cli: Cli) -> None:
    """A tap that is not answered yet is held back until it is, or shown again then; and a gap is told of, once."""
    quick, slow = cases.tap(tapped_at=scene.now(), tap_id=uuid4()), cases.tap(tapped_at=scene.now(), tap_id=uuid4())
    gap = GapView(first_at=cases.ago(hours=2), last_at=cases.ago(hours=1), taps=3, why="The spool was full.")
    unanswered = {"told": None, "told_at": None}
    looks = iter([TapPage(taps=[]), TapPage(taps=[quick.model_copy(update=unanswered)])])

    def found(_: object) -> TapPage:
        return next(looks, TapPage(taps=[quick], gaps=[gap]))

    cli.house.owners.answer(SearchTaps, found)
    process = await cli.start("taps", "--follow", "--json")
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), 20)
    assert (json.loads(line)["tap_id"], json.loads(line)["told"]) == (str(quick.tap_id), quick.told)
    cli.house.owners.answer(SearchTaps, TapPage(taps=[slow.model_copy(update=unanswered), quick], gaps=[gap]))
    line = await asyncio.wait_for(process.stdout.readline(), 20)
    assert (json.loads(line)["tap_id"], json.loads(line)["told"]) == (str(slow.tap_id), None)
    cli.house.owners.answer(SearchTaps, TapPage(taps=[slow, quick], gaps=[gap]))
    line = await asyncio.wait_for(process.stdout.readline(), 20)
    assert (json.loads(line)["tap_id"], json.loads(line)["told"]) == (str(slow.tap_id), slow.told)
    process.send_signal(2)
    out, err = await asyncio.wait_for(process.communicate(), 20)
    assert (process.returncode, out, err.count(b"3 taps in no journal")) == (0, b"", 1)


async def test_pair_goes_by_its_window_and_gives_the_charger_back(cli: Cli) -> None:
    """A clock here that is far ahead ends no wait, and where nobody tells how it stands, the scan is cancelled."""
    pairing = cases.pairing(expires_at=cases.ago(days=1))
    cli.house.owners.answer(ArmPairing, pairing)
    states = iter(["armed", "armed"])

    def listed(_: object) -> PairingList:
        state = next(states, "intercepted")
        return PairingList(pairings=[pairing.model_copy(update={"state": state})])

    cli.house.owners.answer(ListPairings, listed)
    cli.house.owners.answer(SearchTaps, TapPage(taps=[cases.intercepted_tap()]))
    assert (await cli("pair", "CP-7")).code == 0

    def broken(_: object) -> PairingList:
        raise NotFound("Nobody tells.")

    cli.house.owners.answer(ListPairings, broken)
    cli.house.owners.answer(CancelPairing, pairing.model_copy(update={"state": "cancelled"}))
    ended = await cli("pair", "CP-7")
    assert ended.code != 0
    assert len(cli.house.owners.requests(CancelPairing)) == 1
    assert "Cancelled" in ended.err


async def test_pair_waits_for_the_scan(cli: Cli) -> None:
    """Armed, then polled until the card was intercepted: exit 0 and the card."""
    pairing = cases.pairing(expires_at=scene.now().replace(year=2099))
    cli.house.owners.answer(ArmPairing, pairing)
    states = iter(["armed", "matched"])

    def listed(_: object) -> PairingList:
        state = next(states, "intercepted")
        return PairingList(pairings=[pairing.model_copy(update={"state": state})])

    cli.house.owners.answer(ListPairings, listed)
    cli.house.owners.answer(SearchTaps, TapPage(taps=[cases.intercepted_tap()]))
    ended = await cli("pair", "CP-7", "--json")
    assert ended.code == 0, ended.err
    assert isinstance(ended.json, dict)
    assert (ended.json["id_tag"], ended.json["state"]) == (CARD, "intercepted")
    cli.house.owners.answer(ListPairings, PairingList(pairings=[pairing.model_copy(update={"state": "expired"})]))
    assert (await cli("pair", "CP-7")).code == 1
    assert (await cli("pair", "CP-7", "--purpose", "login")).code == 2


async def test_pair_that_is_interrupted_is_cancelled(cli: Cli) -> None:
    """Ctrl-C gives the charger back."""
    pairing = cases.pairing(expires_at=scene.now().replace(year=2099))
    cli.house.owners.answer(ArmPairing, pairing)
    cli.house.owners.answer(ListPairings, PairingList(pairings=[pairing]))
    cli.house.owners.answer(CancelPairing, pairing.model_copy(update={"state": "cancelled"}))
    process = await cli.start("pair", "CP-7")

    async def waiting() -> bool:
        return len(cli.house.owners.requests(ListPairings)) >= 2

    await until(waiting)
    process.send_signal(2)
    await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 1
    assert len(cli.house.owners.requests(CancelPairing)) == 1


async def test_audit_finds_or_does_not(cli: Cli) -> None:
    """The actor's kind and name are filters; nothing found is exit 1, as with grep."""
    cli.house.owners.answer(SearchEntries, EntryPage(entries=[cases.entry("card.linked", cases.NOW, {})]))
    ended = await cli("audit", "--actor", "operator/m", "--subject", f"card/{CARD}")
    assert (ended.code, "card.linked" in ended.out) == (0, True)
    asked = cli.house.owners.requests(SearchEntries)[0].data
    assert (asked["actor_kind"], asked["actor_id"]) == ("operator", "m")
    cli.house.owners.answer(SearchEntries, EntryPage(entries=[]))
    assert (await cli("audit")).code == 1


async def test_tokens_are_created_listed_and_revoked(cli: Cli) -> None:
    """The token alone is on stdout, so that it can be piped; it is revoked by its name."""
    made = await cli("token", "create", "export", "--role", "viewer")
    token = made.out.strip()
    assert (made.code, len(made.out.splitlines())) == (0, 1)
    assert (await cli.house.client(token).get("/api/v1/me")).status_code == 200
    assert "export" in (await cli("token", "list")).out
    assert (await cli("token", "revoke", "export")).code == 0
    assert (await cli.house.client(token).get("/api/v1/me")).status_code == 401


async def test_login_keeps_a_session_that_only_its_owner_can_read(cli: Cli) -> None:
    """0600 under the XDG folder; the commands use it; logout ends it everywhere."""
    del cli.env["EXPRESSYNC_TOKEN"]
    assert (await cli("cards", "list")).code == 3
    ended = await cli("login", "--name", "admin", "--password-stdin", stdin=f"{OWN_PASSWORD}\n")
    assert ended.code == 0, ended.err
    file = cli.folder / "config" / "expressync" / "credentials.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    token = json.loads(file.read_text())["token"]
    all_is_well(cli.house.owners)
    assert (await cli("cards", "list")).code == 0
    assert cli.house.owners.requests(SearchCards)[0].actor.id == "admin"
    assert (await cli("logout")).code == 0
    assert not file.exists()
    assert (await cli.house.client(token).get("/api/v1/me")).status_code == 401


async def test_a_first_login_chooses_a_password(house: House, tmp_path: Path) -> None:
    """With the one-time password a new one is asked for at once."""
    cli = Cli(house, tmp_path, None)
    ended = await cli(
        "login", "--name", "admin", "--password-stdin", stdin=f"{house.one_time_password}\n{OWN_PASSWORD}\n"
    )
    assert ended.code == 0, ended.err
    await house.as_admin()


async def test_login_says_where_before_it_asks(cli: Cli) -> None:
    """Without --url the address is that of the login that is kept, and that may be of another installation."""
    await cli("login", "--name", "admin", "--password-stdin", stdin=f"{OWN_PASSWORD}\n")
    del cli.env["EXPRESSYNC_URL"]
    ended = await cli("login", "--name", "admin")
    assert (ended.code, ended.err.splitlines()[0]) == (1, f"Signing in at {cli.house.url}.")


async def test_a_kept_session_goes_only_where_it_came_from(cli: Cli) -> None:
    """Another EXPRESSYNC_URL does not get the token of this one."""
    del cli.env["EXPRESSYNC_TOKEN"]
    await cli("login", "--name", "admin", "--password-stdin", stdin=f"{OWN_PASSWORD}\n")
    cli.env["EXPRESSYNC_URL"] = cli.house.url.replace("127.0.0.1", "localhost")
    ended = await cli("cards", "list")
    assert ended.code == 3
    assert three_lines(ended)[2].startswith("Run `expressync login`")


async def test_a_token_that_cannot_be_sent_is_not_repeated(cli: Cli) -> None:
    """With the line break of the file that it came from it is no header; it is said so without showing it."""
    cli.env["EXPRESSYNC_TOKEN"] = "expressync_s3cret\n"
    ended = await cli("cards", "list")
    assert ended.code == 2
    assert three_lines(ended)[0] == "The token cannot be sent."
    assert "s3cret" not in ended.err


async def test_a_kept_token_that_cannot_be_sent_is_forgotten(cli: Cli) -> None:
    """It is no session that could be ended, and logout does not fail for it; one that was set is not forgotten so."""
    file = cli.folder / "config" / "expressync" / "credentials.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"url": cli.house.url, "token": "expressync_s3cret\n"}))
    cli.env["EXPRESSYNC_TOKEN"] = "another\n"
    assert (await cli("logout")).code == 2
    assert file.exists()
    del cli.env["EXPRESSYNC_TOKEN"]
    ended = await cli("logout")
    assert (ended.code, file.exists()) == (0, False)


async def test_errors_are_three_lines_and_say_what_to_do(cli: Cli) -> None:
    """Not reachable, not allowed, not understood, not known: what, why, what to do; each with its exit code."""
    unreachable = Cli(cli.house, cli.folder, "x")
    unreachable.env["EXPRESSYNC_URL"] = "http://127.0.0.1:9"
    ended = await unreachable("cards", "list")
    assert (ended.code, three_lines(ended)[0]) == (3, "ExpresSync does not answer at http://127.0.0.1:9.")
    silent = await cli("sessions")
    assert silent.code == 3
    assert "sync did not answer" in three_lines(silent)[1]
    bad_time = await cli("cards", "link", CARD, "--customer", "a", "--subscription", "b", "--from", "tomorrow")
    assert (bad_time.code, three_lines(bad_time)[0]) == (2, "'tomorrow' is no time.")
    insecure = await cli("login", "--url", "http://expressync.example.com", "--password-stdin")
    assert (insecure.code, three_lines(insecure)[0]) == (2, "Nothing was sent.")
    assert (await cli("cards", "fly")).code == 2
    all_is_well(cli.house.owners)
    cli.house.owners.silence(GetSubscription)
    assert (await cli("diagnose", CARD)).code == 3
