"""`expressync sync`: runs, the held queue and the proof, as a person and as a pipe have them."""

import json

import pytest

from shared.contracts.requests.sync import (
    FailedWebhook,
    GetUpstreams,
    ReplayWebhooks,
    UpstreamList,
    WebhooksReplayed,
    WebhookStanding,
)
from shared.contracts.requests.sync_work import (
    CadenceView,
    GetRun,
    HeldChanged,
    HeldPage,
    IgnoreHeld,
    ListRuns,
    OwnerChanged,
    PinCadence,
    Reconcile,
    ReconcileDifference,
    ReconcileResult,
    ReleaseHeld,
    RetryHeld,
    RunCounters,
    RunDetail,
    RunPage,
    RunView,
    SearchHeld,
    StartRun,
)
from tests.integration.services.admin_api.commands import Cli, three_lines
from tests.integration.services.admin_api.scene import CARD
from tests.unit.services.admin_api.diagnosis import things
from tests.unit.services.admin_api.diagnosis.cases import NOW
from tests.waiting import until

NONE = RunCounters()
COURSE = [
    things.run(state="waiting", done=0, expected=None, counters=NONE),
    things.run(state="running", segment="new", done=1, expected=4, counters=RunCounters(seen=1, billed=1)),
    things.run(state="running", segment="deliver", done=3, expected=4, counters=RunCounters(seen=4, billed=3, held=1)),
    things.run(done=4, expected=4, counters=RunCounters(seen=4, billed=3, held=1)),
]


def follow(cli: Cli, course: list[RunView]) -> None:
    """A run that is one step further whenever it is looked at."""
    steps = iter(course)
    cli.house.owners.answer(StartRun, course[0])
    cli.house.owners.answer(GetRun, lambda _: RunDetail(run=next(steps, course[-1]), sessions=[]))


async def test_a_run_is_started_and_left(cli: Cli) -> None:
    """Without --watch it says which run it is, and that it begins later."""
    cli.house.owners.answer(StartRun, COURSE[0])
    ended = await cli("sync", "run", "--segment", "sweep", "--segment", "settle")
    assert (ended.code, ended.lines[1]) == (0, ["state", "waiting"])
    assert cli.house.owners.requests(StartRun)[0].data["segments"] == ["sweep", "settle"]
    assert cli.house.owners.requests(GetRun) == []


async def test_a_watched_run_is_told_line_by_line_when_piped(cli: Cli) -> None:
    """A line whenever it has gone on, then its counters; a held session is a finding."""
    follow(cli, COURSE)
    ended = await cli("sync", "run", "--watch")
    assert ended.code == 1, ended.err
    assert ended.lines[:4] == [
        ["waiting", "", "0", ""],
        ["running", "new", "1/4", "1 seen, 1 billed"],
        ["running", "deliver", "3/4", "4 seen, 3 billed, 1 held"],
        ["finished", "", "4/4", "4 seen, 3 billed, 1 held"],
    ]
    assert ["billed", "3"] in ended.lines
    assert "\x1b" not in ended.out
    follow(cli, COURSE)
    as_json = await cli("sync", "run", "--watch", "--json")
    assert [json.loads(line)["state"] for line in as_json.out.splitlines()][-1] == "finished"


async def test_a_watched_run_has_bars_on_a_terminal(cli: Cli) -> None:
    """One for each segment it was at, in words, filled at the end; all billed is exit 0."""
    fine = RunCounters(seen=4, billed=4)
    follow(cli, [*COURSE[:3], things.run(done=4, expected=4, counters=fine)])
    ended = await cli.on_terminal("sync", "run", "--watch")
    assert ended.code == 0, ended.err
    assert "New sessions" in ended.out
    assert "Sending to Lago" in ended.out
    assert "4/4" in ended.out
    assert "━" in ended.out


async def test_a_run_that_failed_is_a_finding_with_its_problem(cli: Cli) -> None:
    """The exit code and the sentence."""
    follow(cli, [things.run(state="failed", problem="SteVe did not answer.", counters=NONE)])
    ended = await cli("sync", "run", "--watch")
    assert (ended.code, ended.lines[-1]) == (1, ["problem", "SteVe did not answer."])


def upstreams(steve: str) -> UpstreamList:
    each = {"since": NOW, "checked_at": NOW}
    return UpstreamList.model_validate(
        {"upstreams": [{"upstream": "steve", "state": steve, **each}, {"upstream": "lago", "state": "ok", **each}]}
    )


async def test_the_status_names_what_is_wrong(cli: Cli) -> None:
    """Upstreams, cadence, runs, what is held; 0 when all is well, 1 when SteVe is lost or the last run failed."""
    owners = cli.house.owners
    owners.answer(SearchHeld, HeldPage(held=[], classes=[things.held_class()]))
    owners.answer(ListRuns, RunPage(runs=[things.run()], cadence="idle", pinned=True))

    async def heard(state: str) -> None:
        owners.answer(GetUpstreams, upstreams(state))
        client = await cli.house.as_admin()

        async def shown() -> bool:
            steve, lago, *_ = (await client.get("/api/v1/upstreams")).json()["items"]
            # Lago, too: what an earlier test told of it may be what is known still.
            return bool((steve["state"], lago["state"]) == (state, "ok"))

        await until(shown)

    await heard("ok")
    ended = await cli("sync", "status")
    assert ended.code == 0, ended.out
    assert ["cadence", "idle, pinned"] in ended.lines
    assert ["card_unlinked", "3", "21.4", "6.42 EUR"] in [line[:4] for line in ended.lines]
    owners.answer(ListRuns, RunPage(runs=[things.run(state="failed")], cadence="idle", pinned=False))
    assert (await cli("sync", "status")).code == 1
    owners.answer(ListRuns, RunPage(runs=[], cadence="idle", pinned=False))
    await heard("lost")
    assert (await cli("sync", "status", "--json")).code == 1


async def test_held_sessions_are_listed_with_what_waits(cli: Cli) -> None:
    """kWh, money, reason and remedy; something held is exit 1, nothing is 0."""
    cli.house.owners.answer(SearchHeld, HeldPage(held=[things.held()], classes=[things.held_class()]))
    ended = await cli("sync", "held", "--reason", "card_unlinked", "--card", CARD)
    assert ended.code == 1
    (line,) = ended.lines
    assert (line[0], line[4], line[5], line[7]) == ("main:42", "12.4", "3.72 EUR", "card_unlinked")
    assert cli.house.owners.requests(SearchHeld)[0].data["reason"] == "card_unlinked"
    cli.house.owners.answer(SearchHeld, HeldPage(held=[], classes=[]))
    assert (await cli("sync", "held")).code == 0


async def test_held_sessions_are_retried_ignored_and_released(cli: Cli) -> None:
    """Each reaches sync as it was meant; what is refused is named with its reason, and exit 1."""
    owners = cli.house.owners
    done = HeldChanged(sessions=["main:42"])
    for request in (RetryHeld, IgnoreHeld, ReleaseHeld):
        owners.answer(request, done)
    assert (await cli("sync", "retry", "--all")).code == 0
    assert (await cli("sync", "ignore", "main:42", "--note", "a test")).code == 0
    assert (await cli("sync", "release", "--card", CARD, "--since", "2026-05-01T00:00+00:00")).code == 0
    assert owners.requests(RetryHeld)[0].data["everything"] is True
    assert owners.requests(IgnoreHeld)[0].data["note"] == "a test"
    assert owners.requests(ReleaseHeld)[0].data["id_tag"] == CARD
    assert owners.requests(ReleaseHeld)[0].data["since"].startswith("2026-05-01T00:00:00")
    owners.answer(RetryHeld, HeldChanged(sessions=["main:42"], count=206))
    many = await cli("sync", "retry", "--all")
    assert (many.code, many.lines) == (0, [["main:42", "retry"]])
    assert "205 more: 206 sessions in all" in many.err
    owners.answer(ReleaseHeld, HeldChanged(sessions=[], refused={"main:43": "It is not held but counted."}))
    refused = await cli("sync", "release", "main:43")
    assert (refused.code, refused.lines) == (1, [["main:43", "refused", "It is not held but counted."]])
    moved = OwnerChanged(session="main:42", previous_external_customer_id="cus_ada", external_customer_id="cus_bob")
    owners.answer(ReleaseHeld, HeldChanged(sessions=["main:42"], owners_changed=[moved]))
    ended = await cli("sync", "release", "main:42", "--change-owner")
    assert (ended.code, ended.lines) == (0, [["main:42", "release", "to cus_bob, it was cus_ada's"]])
    assert owners.requests(ReleaseHeld)[-1].data["change_owner"] is True


@pytest.mark.parametrize("arguments", [("retry",), ("retry", "main:1", "--all"), ("release", "--card", CARD)])
async def test_what_is_meant_has_to_be_said_exactly_once(cli: Cli, arguments: tuple[str, ...]) -> None:
    """Exit 2, three lines, and nobody is asked."""
    ended = await cli("sync", *arguments)
    assert (ended.code, three_lines(ended)[2]) == (2, "Nothing was changed.")
    assert cli.house.owners.asked == []


async def test_on_a_terminal_a_decision_is_confirmed(cli: Cli) -> None:
    """What will happen, then the question; a no changes nothing."""
    cli.house.owners.answer(IgnoreHeld, HeldChanged(sessions=["main:42"]))
    no = await cli.on_terminal("sync", "ignore", "main:42", "--note", "x", stdin="n\n")
    assert (no.code, "Not billed: main:42." in no.err) == (1, True)
    assert cli.house.owners.requests(IgnoreHeld) == []
    assert (await cli.on_terminal("sync", "ignore", "main:42", "--note", "x", stdin="y\n")).code == 0


async def test_the_proof_ends_with_0_1_or_3(cli: Cli) -> None:
    """Equal, a difference with its explanation and proposal, and "cannot be told"."""
    owners = cli.house.owners
    owners.answer(Reconcile, ReconcileResult(rows=[things.row()], checked_at=NOW))
    fine = await cli("sync", "reconcile", "sub_fleet")
    assert (fine.code, fine.lines[0][4:9]) == (0, ["12.4", "12.4", "12.4", "12.4", "0.0"]), fine.err
    differs = things.row(
        equal=False,
        counted_wh=0,
        differences=[ReconcileDifference(kind="missing", wh=-12_400, explanation="Not counted.", proposal="Send it.")],
    )
    owners.answer(Reconcile, ReconcileResult(rows=[differs], checked_at=NOW))
    wrong = await cli("sync", "reconcile")
    assert (wrong.code, wrong.lines[1]) == (1, ["sub_fleet", "Not counted.", "Send it."])
    unknown = things.row(equal=None, counted_wh=None, problem="Lago did not answer")
    owners.answer(Reconcile, ReconcileResult(rows=[unknown], checked_at=NOW))
    assert (await cli("sync", "reconcile", "--stored")).code == 3
    assert [asked.data["stored"] for asked in owners.requests(Reconcile)] == [False, False, True]


@pytest.mark.parametrize("options", [(), ("--stored",)])
async def test_the_proof_is_of_all_or_says_that_it_is_not(cli: Cli, options: tuple[str, ...]) -> None:
    """A difference behind many pages is found; whoever wants the first ones only is told that there are others, and
    does not end as if all were equal.
    """
    names = [f"sub_{number:03d}" for number in range(230)]

    def page(asked: Reconcile) -> ReconcileResult:
        """As sync pages: it names a cursor where the page is full, also at the very end."""
        size = asked.limit
        some = [name for name in names if name > (asked.cursor or "")][:size]
        rows = [things.row(external_subscription_id=name, equal=name != names[-1]) for name in some]
        return ReconcileResult(rows=rows, checked_at=NOW, next_cursor=some[-1] if len(some) == size else None)

    cli.house.owners.answer(Reconcile, page)
    whole = await cli("sync", "reconcile", *options, "--json")
    assert (whole.code, len(whole.json)) == (1, 230)
    part = await cli("sync", "reconcile", *options, "--limit", "229")
    assert (part.code, len(part.lines), "more than these 229" in part.err) == (3, 229, True)
    exact = await cli("sync", "reconcile", *options, "--limit", "230")
    assert (exact.code, exact.err) == (1, "")


async def test_webhooks_that_failed_are_shown_and_replayed(cli: Cli) -> None:
    """What failed and why is exit 1; Lago's own line names it too; a replay takes all of them, or the named ones."""
    owners = cli.house.owners
    failed = FailedWebhook(unique_key="k1", webhook_type="invoice.created", received_at=NOW, why="no such field")
    standing = WebhookStanding(received_at=NOW, waiting=0, failed=1, newest_failed=[failed])
    owners.answer(GetUpstreams, upstreams("ok").model_copy(update={"webhooks": standing}))
    ended = await cli("sync", "webhooks")
    assert (ended.code, ended.lines[-1]) == (
        1,
        ["k1", "invoice.created", NOW.isoformat().replace("+00:00", "Z"), "no such field"],
    )
    client = await cli.house.as_admin()

    async def named() -> bool:
        items = (await client.get("/api/v1/upstreams")).json()["items"]
        return "One of its webhooks could not be acted on" in items[1]["sentence"]

    await until(named)
    owners.answer(ReplayWebhooks, WebhooksReplayed(replayed=1))
    assert (await cli("sync", "webhooks", "--replay")).code == 0
    owners.answer(ReplayWebhooks, WebhooksReplayed(replayed=0, unknown=["k9"]))
    assert (await cli("sync", "webhooks", "--replay", "k9")).code == 1
    assert [(asked.data["failed"], asked.data["unique_keys"]) for asked in owners.requests(ReplayWebhooks)] == [
        (True, []),
        (False, ["k9"]),
    ]
    owners.answer(
        GetUpstreams,
        upstreams("ok").model_copy(update={"webhooks": standing.model_copy(update={"failed": 0, "newest_failed": []})}),
    )
    assert (await cli("sync", "webhooks", "--json")).code == 0


async def test_the_cadence_is_pinned_and_let_go(cli: Cli) -> None:
    """A mode pins it, `auto` lets it go."""
    view = CadenceView(mode="idle", since=NOW, pinned=True, pinned_by="cli", seconds=60, why="Pinned by cli.")
    cli.house.owners.answer(PinCadence, view)
    assert ["a look every", "60 s"] in (await cli("sync", "cadence", "idle")).lines
    await cli("sync", "cadence", "auto")
    assert [asked.data["mode"] for asked in cli.house.owners.requests(PinCadence)] == ["idle", None]
