"""What may happen around a sync, in any order: an action is a name of the machine's and what it is given."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from hypothesis import strategies as st

from tests.integration.services.sync.conftest import LAGO_SEED

Action = tuple[Any, ...]

SUBSCRIPTIONS: Final = {"sub_ada": "cus_ada", "sub_bob": "cus_bob", "sub_eve": "cus_bob"}
# CHILD is below CARD-A, and NEW is linked to nobody.
CARDS: Final = ("CARD-A", "CARD-B", "CHILD", "NEW")
# Each makes a session that is held by this name.
ANOMALIES: Final = (
    "no_energy",
    "meter_went_back",
    "stop_before_start",
    "negative_energy",
    "too_much_energy",
    "meter_unreadable",
    "card_unknown",
)
LAGO_FAULTS: Final = (
    "drop_after_commit",
    "slow",
    "drop_before",
    "http_500",
    "html_502",
    "empty_5xx",
    "http_429",
    "login_redirect",
)
STEVE_FAULTS: Final = ("down", "5xx", "html", "login_redirect", "drop_before", "wrong_credentials")


def lago_seed(now: datetime) -> dict[str, Any]:
    """Subscriptions by the week, and all in the middle of it: what was charged some days ago is of the week before."""
    began = now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=2, weeks=14)
    plan = {**LAGO_SEED["plans"][0], "interval": "weekly"}
    subscription = {"plan_code": "ev", "started_at": began.isoformat(), "billing_time": "anniversary"}
    named = [{"external_id": name, "external_customer_id": whose} for name, whose in SUBSCRIPTIONS.items()]
    return {
        **LAGO_SEED,
        "plans": [plan, {**plan, "code": "other"}],
        "subscriptions": [subscription | one for one in named],
    }


_cards = st.sampled_from(CARDS)
_linked = st.sampled_from(("CARD-A", "CARD-B", "NEW", "CHILD"))
_subscriptions = st.sampled_from(sorted(SUBSCRIPTIONS))
_wh = st.integers(1, 40_000)
_nth = st.integers(0, 9)
_replica = st.integers(0, 1)


def _does(name: str, *given: st.SearchStrategy[Any]) -> st.SearchStrategy[Action]:
    return st.tuples(st.just(name), *given)


_charge = _does("charge", _cards, _wh, st.sampled_from(("ended", "open", "manual")))
_late = _does("late", _cards, _wh, st.integers(1, 200))
_lago = _does("lago", st.sampled_from(LAGO_FAULTS), st.integers(1, 3), st.sampled_from(("/events", "")))
_turn = _does("turn", _replica)
_end = _does("end", _subscriptions, st.sampled_from(("end", "replace", "gone")), st.booleans())
_period = _does("period")
_restop = _does("restop", _nth, _wh)
_link = _does("link", _linked, _subscriptions, st.sampled_from((0, 0, 1, 5, 72)), st.sampled_from((None, None, 2, 90)))
_parent = _does("parent", st.sampled_from(("CHILD", "NEW")), st.sampled_from((None, "CARD-A", "CARD-B")))
_reissue = _does("reissue", st.sampled_from(("CARD-B", "CHILD", "NEW")), st.booleans())

actions: st.SearchStrategy[Action] = st.one_of(
    _charge,
    _late,
    _does("wrong", _cards, st.sampled_from(ANOMALIES)),
    _does("stop", _nth, _wh),
    _restop,
    _does("step", _nth, st.integers(1, 20_000), _replica),
    _link,
    _does("unlink", _linked, st.sampled_from((0, 0, 1, 48))),
    _parent,
    _reissue,
    _lago,
    _does("steve", st.sampled_from(STEVE_FAULTS), st.integers(1, 3)),
    _turn,
    _does("both"),
    _does("count", _replica),
    _does("die", _replica, st.integers(0, 60)),
    _does("later", st.integers(1, 30)),
    _end,
    _does("back", _subscriptions),
    _period,
    _does("follow", _replica),
    _does("webhook", _nth, _replica),
    _does("foreign", _nth),
    _does("clear", _nth),
    _does("refused", _replica),
    _does("poison", _cards, _wh, _replica),
    _does("news", st.sampled_from(sorted(SUBSCRIPTIONS))),
    _does("release", _nth),
    _does("ignore", _nth),
    _does("retry", st.sampled_from(("one", "class", "all")), _nth),
)
# What only comes about when one thing follows another.
_scenes = st.one_of(
    # An event is on its way, or Lago has it and nobody knows, when its subscription or its period ends.
    st.tuples(_charge, _lago, _turn, st.one_of(_end, _period)),
    # It is billed, the period or the subscription ends, and only then is it known how much it was.
    st.tuples(_does("charge", _cards, _wh, st.just("manual")), _turn, st.one_of(_end, _period), _restop),
    # An id is somebody else's, and what comes after it is too late.
    st.tuples(
        _does("charge", _cards, _wh, st.just("manual")), _does("foreign", _nth), _turn, _restop, _lago, _turn, _period
    ),
    # Lago refuses an event, or cannot bear it; more is used, or the period ends, before it is tried again.
    st.tuples(_does("charge", _cards, _wh, st.just("manual")), _does("refused", _replica), _restop, _turn, _period),
    st.tuples(_does("poison", _cards, _wh, _replica), st.one_of(_end, _period)),
    # What nobody was to pay for waits for its link.
    st.tuples(_does("charge", st.just("NEW"), _wh, st.just("ended")), _turn, _link, _lago, _turn),
    # A number is somebody else's by now, and sync learns of it by the first session, or by a command.
    st.tuples(_reissue, st.one_of(_charge, _link, _parent), _charge, _turn),
)


def _joined(scenes: Iterable[Iterable[Action]]) -> list[Action]:
    return [action for scene in scenes for action in scene]


histories: st.SearchStrategy[list[Action]] = st.lists(
    st.one_of(st.tuples(actions), st.tuples(actions), st.tuples(actions), _scenes), min_size=5, max_size=25
).map(_joined)


# Told in full, so that each is played each time; the others are drawn.
KNOWN: Final[Mapping[str, list[Action]]] = {
    "what became late is retried, and released": [
        ("charge", "CARD-A", 4_000, "ended"),
        ("lago", "drop_before", 1, "/events/batch"),
        ("turn", 0),
        ("late", "CARD-B", 7_000, 150),
        ("lago", "drop_after_commit", 1, "/events/batch"),
        ("period",),
        ("turn", 0),
        ("retry", "all", 0),
        ("turn", 0),
        ("release", 0),
        ("lago", "drop_after_commit", 1, "/events/batch"),
        ("turn", 0),
        ("turn", 1),
    ],
    "an id is somebody else's, what follows it is late, and neither is lost by a release": [
        ("charge", "CARD-A", 6_000, "manual"),
        ("foreign", 0),
        ("turn", 0),
        ("restop", 0, 9_000),
        ("lago", "drop_before", 1, "/events/batch"),
        ("turn", 0),
        ("period",),
        ("turn", 0),
        ("release", 0),
        ("turn", 1),
        ("clear", 0),
        ("turn", 0),
        ("release", 0),
    ],
    "Lago refuses all, and cannot bear one; repaired, it has each once, and what was too late is held": [
        ("charge", "CARD-A", 4_000, "manual"),
        ("charge", "CARD-B", 2_000, "ended"),
        ("refused", 0, 2),
        ("restop", 0, 7_000),
        ("poison", "CARD-B", 1_000, 1),
        ("charge", "CHILD", 500, "ended"),
        ("retry", "class", 0),
        ("lago", "drop_after_commit", 1, "/events/batch"),
        ("turn", 1),
        ("refused", 1),
        ("poison", "CARD-A", 8_000, 0),
        ("period",),
        ("retry", "all", 0),
        ("turn", 0),
    ],
    "each anomaly waits for an operator, or for the station": [
        *(("wrong", "CARD-A", anomaly) for anomaly in ANOMALIES),
        ("turn", 0),
        ("restop", 2, 5_000),
        *(("release", number) for number in range(4)),
        ("ignore", 0),
        ("retry", "class", 0),
        ("period",),
        ("release", 0),
    ],
    "cards find an owner from a confirmed date, and those that have one keep it": [
        ("charge", "NEW", 1_000, "ended"),
        ("late", "NEW", 2_000, 30),
        ("charge", "CHILD", 4_000, "manual"),
        ("turn", 0),
        ("parent", "NEW", "CARD-B"),
        ("link", "CARD-A", "sub_eve", 5, None),
        ("late", "CHILD", 8_000, 1),
        ("restop", 0, 5_000),
        ("parent", "CHILD", "CARD-B"),
        ("charge", "CHILD", 16_000, "ended"),
        ("link", "NEW", "sub_ada", 1, 20),
        ("unlink", "CARD-B"),
        ("charge", "CHILD", 32_000, "ended"),
        ("turn", 1),
        ("link", "CARD-B", "sub_bob", 0, 2),
    ],
    "subscriptions end, and are replaced, under what is not billed or is less by now": [
        ("charge", "CARD-A", 9_000, "manual"),
        ("charge", "CARD-B", 8_000, "manual"),
        ("turn", 0),
        ("charge", "CARD-A", 3_000, "ended"),
        ("charge", "CARD-B", 5_000, "ended"),
        ("lago", "drop_after_commit", 1, "/events/batch"),
        ("turn", 1),
        ("charge", "CARD-A", 600, "open"),
        ("charge", "CHILD", 2_000, "ended"),
        ("charge", "CARD-B", 2_500, "ended"),
        ("end", "sub_ada", "end", True),
        ("end", "sub_bob", "replace", False),
        ("webhook", 9, 1),
        ("webhook", 0, 0),
        ("restop", 0, 9_500),
        ("restop", 0, 1_000),
        ("charge", "CHILD", 700, "ended"),
        ("turn", 0),
        ("follow", 0),
        ("link", "CARD-A", "sub_eve", 0, 90),
        ("webhook", 0, 1),
        ("turn", 1),
    ],
    "a tag is made again for somebody else, below no parent, and below the same": [
        ("parent", "NEW", "CARD-A"),
        ("charge", "CHILD", 1_000, "manual"),
        ("turn", 0),
        ("reissue", "CHILD", False),
        ("charge", "CHILD", 2_000, "ended"),
        ("steve", "5xx", 1),
        ("turn", 0),
        ("later", 30),
        ("turn", 1),
        ("reissue", "NEW", True),
        ("charge", "NEW", 4_000, "ended"),
        ("turn", 0),
        ("link", "CHILD", "sub_bob", 0, 1),
        ("charge", "CHILD", 8_000, "ended"),
        ("reissue", "NEW", False),
        ("charge", "NEW", 16_000, "ended"),
        ("parent", "NEW", "CARD-B"),
        ("charge", "NEW", 32_000, "ended"),
    ],
    "who was to pay for some hours more does not pay for another tag": [
        ("unlink", "CARD-B", 48),
        ("charge", "CARD-B", 1_000, "ended"),
        ("turn", 0),
        ("reissue", "CARD-B", False),
        ("charge", "CARD-B", 2_000, "ended"),
        ("turn", 0),
        ("unlink", "CARD-A", 1),
        ("charge", "CHILD", 4_000, "ended"),
        ("charge", "CARD-A", 8_000, "ended"),
        ("charge", "CHILD", 16_000, "ended"),
        ("link", "CARD-A", "sub_eve", 0, 2),
        ("turn", 1),
        ("unlink", "CARD-A", 48),
        ("end", "sub_eve", "end", True),
        ("follow", 0),
        ("charge", "CHILD", 32_000, "ended"),
    ],
    "a webhook tells of an end within the minute for which Lago's word is believed": [
        ("charge", "CARD-B", 1_000, "ended"),
        ("charge", "CARD-B", 1_000, "open"),
        ("turn", 0),
        ("stop", 0, 5_000),
        ("end", "sub_bob", "end", True),
        ("turn", 0),
    ],
    "a subscription is gone, and comes back": [
        ("charge", "CARD-B", 9_000, "open"),
        ("turn", 0),
        ("step", 0, 6_000, 0),
        ("lago", "slow", 1, "/events/batch"),
        ("turn", 0),
        ("end", "sub_bob", "gone", False),
        ("stop", 0, 2_000),
        ("charge", "CARD-B", 5_000, "ended"),
        ("news", "sub_bob"),
        ("webhook", 0, 0),
        ("turn", 1),
        ("retry", "all", 0),
        ("back", "sub_bob"),
        ("turn", 0),
        ("period",),
    ],
    "an id is somebody else's, it is billed by hand and ignored, and the station tells more": [
        ("charge", "CARD-A", 9_000, "manual"),
        ("foreign", 0),
        ("turn", 0),
        ("ignore", 0),
        ("restop", 0, 9_500),
        ("turn", 0),
        ("clear", 0),
        ("retry", "class", 0),
        ("turn", 1),
    ],
}
