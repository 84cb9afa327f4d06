"""What differs between SteVe, the ledger and Lago: each cause by its name, and together exactly the whole gap."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sync.reconcile import rules
from services.sync.reconcile.rules import Elsewhere, Entry, EntryState, Findings, Scope, Session, Span, Stored

START = datetime(2026, 5, 1, tzinfo=UTC)
SPAN = Span(START, datetime(2026, 5, 31, 23, 59, 59, 999_999, tzinfo=UTC))
SCOPE = Scope("sub_ada", "ev_charging_kwh", SPAN)
NOON = START + timedelta(days=9, hours=12)


def entry(number: int = 1, wh: int = 5_000, state: EntryState = "sent", reported: str | None = None) -> Entry:
    at = NOON + timedelta(minutes=number)
    return Entry(f"steve:main:{number}:1", f"main:{number}", wh, at, SCOPE.metric_code, state, reported)


def lago(one: Entry, **changed: object) -> Stored:
    stored = Stored(one.usage_event_id, SCOPE.subscription, one.code, one.timestamp, one.wh, counted=True)
    return replace(stored, **changed)  # type: ignore[arg-type]


def session(one: Entry, steve_wh: int | None = -1) -> Session:
    """A session with this one entry; by default SteVe recorded as much."""
    return Session(one.session, one.wh if steve_wh == -1 else steve_wh, one.wh)


def compare(
    entries: list[Entry],
    stored: list[Stored],
    *,
    sessions: list[Session] | None = None,
    known: dict[str, Elsewhere] | None = None,
) -> Findings:
    mine = sessions if sessions is not None else [session(one) for one in entries]
    return rules.one_by_one(mine, entries, stored, SCOPE, known=known or {})


def test_what_lago_has_as_it_was_sent_is_equal() -> None:
    """The same events, the same energy: equal, and all four sums are one."""
    entries = [entry(1), entry(2, 700), entry(3, -200)]
    found = compare(entries, [lago(one) for one in entries])
    assert found.equal is True
    assert (found.sums.steve_wh, found.sums.ledger_wh, found.sums.sent_wh, found.counted_wh) == (5_500,) * 4


ONE = entry()
MAY_1 = START
JUNE = SPAN.end + timedelta(days=2)


@pytest.mark.parametrize(
    ("one", "stored", "kind", "wh"),
    [
        (ONE, [], "sent_not_stored", -5_000),
        (entry(state="stuck"), [], "not_sent", -5_000),
        (entry(state="stuck"), [lago(ONE)], "counted_not_sent", 0),
        (ONE, [lago(ONE, counted=False)], "sent_not_counted", -5_000),
        (ONE, [lago(ONE, wh=None)], "sent_not_counted", -5_000),
        (entry(reported="invalid_code"), [lago(ONE)], "sent_not_counted", -5_000),
        (ONE, [lago(ONE), lago(ONE, timestamp=MAY_1)], "counted_twice", 5_000),
        (ONE, [lago(ONE, wh=4_000)], "wrong_quantity", -1_000),
        (ONE, [lago(ONE, wh=6_000)], "wrong_quantity", 1_000),
        (ONE, [lago(ONE, timestamp=MAY_1)], "wrong_time", 0),
        (ONE, [lago(ONE, timestamp=JUNE)], "wrong_time", -5_000),
        (ONE, [lago(ONE, subscription="sub_bob")], "other_subscription", -5_000),
        (ONE, [lago(ONE, code="parking")], "other_metric", -5_000),
        (entry(state="held"), [lago(ONE, wh=1_000)], "held_but_counted", 1_000),
    ],
)
def test_each_cause_has_its_name(one: Entry, stored: list[Stored], kind: str, wh: int) -> None:
    """One entry and what Lago has under its id: one difference, named, with its energy, its session and a proposal."""
    found = compare([one], stored)
    assert [(each.kind, each.wh, each.session) for each in found.differences] == [(kind, wh, "main:1")]
    assert found.equal is False
    assert found.differences[0].proposal
    assert one.usage_event_id in found.differences[0].explanation


def test_an_event_of_nobody_is_told() -> None:
    """What Lago counts and the ledger does not know is a difference without a session."""
    found = compare([], [lago(ONE)])
    assert [(one.kind, one.wh, one.session) for one in found.differences] == [("unknown_in_ledger", 5_000, None)]


@pytest.mark.parametrize(
    ("elsewhere", "kind"),
    [
        (Elsewhere("main:1", "sub_bob", NOON), "other_subscription"),
        (Elsewhere("main:1", "sub_ada", JUNE), "wrong_time"),
    ],
)
def test_an_event_of_ours_that_belongs_elsewhere_is_told_with_its_session(elsewhere: Elsewhere, kind: str) -> None:
    """Lago counts it here; the ledger has it for another subscription, or in another period."""
    found = compare([], [lago(ONE)], known={ONE.usage_event_id: elsewhere})
    assert [(one.kind, one.wh, one.session) for one in found.differences] == [(kind, 5_000, "main:1")]


def test_what_lago_does_not_count_and_nobody_sent_is_nothing() -> None:
    """Another product's events, and those that count for no subscription, are no difference."""
    assert compare([], [lago(ONE, code="parking"), lago(entry(2), counted=False)]).equal is True


def test_what_is_on_its_way_is_no_difference_wherever_it_has_got_to() -> None:
    """An entry that is being delivered is left out of all sums, whether Lago has it yet or not."""
    waiting = entry(2, state="waiting")
    for stored in ([lago(ONE)], [lago(ONE), lago(waiting)]):
        found = compare([ONE, waiting], stored)
        assert found.equal is True
        assert (found.counted_wh, found.sums.ledger_wh, found.sums.waiting_wh) == (5_000, 5_000, 5_000)


def test_a_session_that_the_ledger_lacks_is_told() -> None:
    """SteVe recorded more than all of a session's entries, and nothing about it is to be decided."""
    found = compare([ONE], [lago(ONE)], sessions=[session(ONE, 5_800), Session("main:9", 1_000, 0)])
    assert [(one.kind, one.wh, one.session) for one in found.differences] == [
        ("ledger_differs", -800, "main:1"),
        ("ledger_differs", -1_000, "main:9"),
    ]
    assert found.sums.steve_wh == 6_800


def test_a_session_without_a_final_record_is_believed() -> None:
    """Of a session that runs, is held or is about to be settled, the ledger is what counts; what it holds is apart."""
    found = compare([ONE], [lago(ONE)], sessions=[Session("main:1", None, 5_000, held_wh=300)])
    assert found.equal is True
    assert (found.sums.steve_wh, found.sums.held_wh) == (5_000, 300)


@pytest.mark.parametrize(
    ("usage_wh", "events", "sure"),
    [(5_000, 1, True), (10_000, 2, True), (5_000, 2, False), (10_000, 1, False), (0, 0, False), (None, 0, False)],
)
def test_the_total_is_enough_where_it_is_as_it_should_be(usage_wh: int | None, events: int, sure: bool) -> None:  # noqa: FBT001
    """Energy and number are those that were sent, with or without what is on its way; else the events are read."""
    entries = [ONE, entry(2, state="waiting")]
    found = rules.at_a_glance([], entries, usage_wh=usage_wh, usage_events=events)
    assert (found is not None) is sure
    if found is not None:
        assert found.equal is True
        assert found.counted_wh == 5_000


def test_nothing_sent_and_nothing_counted_needs_no_charge() -> None:
    """A subscription to which nothing was sent is equal although its plan has no charge on the metric."""
    found = rules.at_a_glance([], [entry(state="held")], usage_wh=None, usage_events=0)
    assert found is not None
    assert found.equal is True


def test_the_total_is_not_enough_for_what_is_stuck() -> None:
    """An entry that is not sent is looked for in Lago."""
    assert rules.at_a_glance([], [entry(state="stuck")], usage_wh=0, usage_events=0) is None


@pytest.mark.parametrize(
    ("usage_wh", "kind", "wh"), [(None, "no_charge", -5_000), (0, "counted_otherwise", -5_000), (5_000, None, 0)]
)
def test_a_total_that_is_not_the_sum_of_its_events_is_told(usage_wh: int | None, kind: str | None, wh: int) -> None:
    """All events are there, and Lago adds them up to something else."""
    entries, stored = [ONE], [lago(ONE)]
    found = rules.with_total(compare(entries, stored), usage_wh=usage_wh, shown=rules.shown_wh(entries, stored, SCOPE))
    assert [(one.kind, one.wh) for one in found.differences] == ([(kind, wh)] if kind else [])
    assert found.counted_wh == 5_000 + wh


def test_a_summary_names_kinds_and_energy() -> None:
    """The sentence for people says what, how often and how much."""
    found = compare([entry(1), entry(2)], [])
    assert "sent_not_stored 2 times (-10000 Wh)" in rules.summary(found.differences)
    assert rules.summary(found.differences[:1]).count("steve:main:1:1") == 1


FATES = ("fine", "missing", "uncounted", "quantity", "twice", "moved", "elsewhere", "reported", "unreadable")
EXPECTED = {
    "fine": None,
    "missing": "sent_not_stored",
    "uncounted": "sent_not_counted",
    "quantity": "wrong_quantity",
    "twice": "counted_twice",
    "moved": "wrong_time",
    "elsewhere": "other_subscription",
    "reported": "sent_not_counted",
    "unreadable": "sent_not_counted",
}
fates = st.lists(st.tuples(st.sampled_from(FATES), st.integers(-50_000, 90_000).filter(bool)), max_size=12)


def fated(number: int, fate: str, wh: int) -> tuple[Entry, list[Stored]]:
    one = entry(number, wh, reported="invalid_code" if fate == "reported" else None)
    other: dict[str, list[Stored]] = {
        "missing": [],
        "uncounted": [lago(one, counted=False)],
        "quantity": [lago(one, wh=wh + 7)],
        "twice": [lago(one), lago(one, timestamp=one.timestamp + timedelta(seconds=1))],
        "moved": [lago(one, timestamp=JUNE)],
        "elsewhere": [lago(one, subscription="sub_bob")],
        "unreadable": [lago(one, wh=None)],
    }
    return one, other.get(fate, [lago(one)])


@given(fates)
def test_every_event_gets_the_name_of_its_own_fate(given_fates: list[tuple[str, int]]) -> None:
    """However many go wrong in whatever ways, each is told once, under its own name and session."""
    made = [fated(number, *one) for number, one in enumerate(given_fates)]
    found = compare([one for one, _ in made], [one for _, some in made for one in some])
    named = [(one.kind, one.session) for one in found.differences]
    meant = [(EXPECTED[fate], f"main:{number}") for number, (fate, _) in enumerate(given_fates) if EXPECTED[fate]]
    assert sorted(named) == sorted(meant)


ids = st.integers(0, 6)
stamps = st.integers(0, 40).map(lambda days: START + timedelta(days=days))
entries_by_id = st.dictionaries(
    ids,
    st.builds(
        lambda wh, state, reported, at: (wh, state, reported, at),
        st.integers(-9_000, 9_000),
        st.sampled_from(["sent", "waiting", "stuck", "held"]),
        st.sampled_from([None, None, None, "invalid_code"]),
        st.integers(0, 30),
    ),
)
anything_stored = st.lists(
    st.builds(
        Stored,
        ids.map(lambda number: f"steve:main:{number}:1"),
        st.sampled_from(["sub_ada", "sub_ada", "sub_bob", None]),
        st.sampled_from([SCOPE.metric_code, SCOPE.metric_code, "parking"]),
        stamps,
        st.none() | st.integers(-9_000, 9_000),
        st.booleans(),
    ),
    max_size=15,
)
gaps = st.lists(st.none() | st.integers(-500, 500), max_size=7)


@given(entries_by_id, anything_stored, gaps, st.none() | st.integers(-9_000, 9_000), st.randoms())
def test_the_differences_are_the_whole_gap_and_nothing_else(
    of_id: dict[int, tuple[int, EntryState, str | None, int]],
    stored: list[Stored],
    steve: list[int | None],
    usage_wh: int | None,
    chance: object,
) -> None:
    """Whatever Lago has: what it counts more than SteVe recorded is the sum of the differences, without one they are
    equal in all four, and neither the order of pages nor an event that came twice changes anything.
    """
    entries = [
        Entry(f"steve:main:{n}:1", f"main:{n}", wh, START + timedelta(days=day), SCOPE.metric_code, state, reported)
        for n, (wh, state, reported, day) in of_id.items()
    ]
    sessions = [Session(f"main:{n}", None if gap is None else 100 + gap, 100) for n, gap in enumerate(steve)]
    found = rules.one_by_one(sessions, entries, stored, SCOPE, known={})
    found = rules.with_total(found, usage_wh=usage_wh, shown=rules.shown_wh(entries, stored, SCOPE))
    assert found.counted_wh is not None
    assert found.counted_wh - found.sums.steve_wh == sum(one.wh for one in found.differences)
    if found.equal:
        sums = found.sums
        assert sums.steve_wh == sums.ledger_wh == sums.sent_wh == found.counted_wh
    shuffled = [*stored, *stored[:3]]
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    again = rules.one_by_one(sessions, entries, shuffled, SCOPE, known={})
    again = rules.with_total(again, usage_wh=usage_wh, shown=rules.shown_wh(entries, shuffled, SCOPE))
    assert again.counted_wh == found.counted_wh
    assert sum(one.wh for one in again.differences) == sum(one.wh for one in found.differences)
