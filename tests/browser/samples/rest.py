"""The overview, the audit log, and what is seen without being signed in."""

from collections.abc import Iterator
from dataclasses import replace

from services.admin_api.console.view.audit import AuditFilter, AuditLog
from services.admin_api.console.view.frame import Frame
from services.admin_api.console.view.overview import Overview, Waiting
from services.admin_api.console.view.password import ChoosePassword
from services.admin_api.console.view.problem import Problem
from services.admin_api.console.view.sessions import Sessions
from services.admin_api.console.view.sign_in import SignIn
from services.admin_api.console.view.state import Action, Pager, State
from tests.browser.samples.base import (
    ALL_ROOMS,
    BROKER,
    FRAME,
    LAGO,
    LAGO_SILENT,
    LAGO_SLOW,
    LOST,
    NOW,
    STEVE,
    STEVE_LOST,
    Sample,
    ago,
)
from tests.browser.samples.parts import (
    ENTRIES,
    SESSIONS,
    TAPS,
)


def audit() -> Iterator[Sample]:
    frame = FRAME.at("audit", twin="/api/v1/audit")
    yield Sample("audit", "audit/list.html", frame, AuditLog(ENTRIES, AuditFilter(within="7d"), Pager(8, "/audit?a")))
    yield Sample(
        "audit-none-found",
        "audit/list.html",
        frame,
        AuditLog(
            (),
            AuditFilter("card.blocked", "card/04A1B2C3D4", "operator", "mara", since="2026-05-01T08:00"),
            problem="“until” was not a date: “tomorrow”. It was left out.",
        ),
    )
    yield Sample("audit-empty", "audit/list.html", frame, AuditLog(()))
    yield Sample("audit-silent", "audit/list.html", frame, AuditLog(None, AuditFilter(type="x.unheard_of")))
    yield Sample("audit-entry", "audit/show.html", frame, ENTRIES[1])
    yield Sample("audit-entry-counted", "audit/show.html", frame, ENTRIES[2])
    yield Sample("audit-entry-personal", "audit/show.html", frame, ENTRIES[4])


def overview() -> Iterator[Sample]:
    frame = FRAME.at("overview", twin="/api/v1/overview")
    calm = (
        Waiting(
            "session to send", "sessions to send", 3, "They go with the next run, in 20 s.", ago(m=2), tolerable=True
        ),
        Waiting("held session", "held sessions", 0, "Nothing is kept back."),
        Waiting("parked message", "parked messages", 0, "Every message was understood."),
    )
    page = Overview((STEVE, LAGO, BROKER), calm, TAPS, SESSIONS, live_taps="/live/taps")
    yield Sample("overview", "overview/show.html", frame, page)
    busy = (
        replace(calm[0], number=12, oldest=ago(h=3)),
        Waiting(
            "held session",
            "held sessions",
            4,
            "87.3 kWh are kept back. Each one says why, and what releases it.",
            ago(d=6),
            href="/",
        ),
        Waiting("parked message", "parked messages", None, "The broker was not asked."),
    )
    yield Sample(
        "overview-trouble",
        "overview/show.html",
        replace(LOST, upstreams=(STEVE_LOST, LAGO_SLOW, BROKER)).at("overview"),
        replace(
            page,
            upstreams=(STEVE_LOST, LAGO_SLOW, BROKER),
            waiting=busy,
            banners=("Interception is switched off at CP-7: every tap charges there.",),
        ),
    )
    yield Sample(
        "overview-empty",
        "overview/show.html",
        replace(FRAME, upstreams=(STEVE, LAGO_SILENT, BROKER)).at("overview"),
        replace(page, upstreams=(STEVE, LAGO_SILENT, BROKER), taps=(), sessions=Sessions(())),
    )
    yield Sample(
        "overview-silent",
        "overview/show.html",
        replace(FRAME, upstreams=()).at("overview"),
        Overview((), tuple(replace(each, number=None) for each in calm), None, Sessions(None)),
    )
    yield Sample(
        "overview-held",
        "overview/show.html",
        replace(frame, rooms=ALL_ROOMS),
        replace(page, waiting=(calm[0], busy[1])),
    )
    yield Sample(
        "overview-rail-collapsed", "overview/show.html", replace(frame, rooms=ALL_ROOMS, rail_collapsed=True), page
    )


def outside() -> Iterator[Sample]:
    nobody = Frame(now=NOW, csrf_token="t")
    yield Sample("sign-in", "sign_in/show.html", nobody, SignIn())
    yield Sample(
        "sign-in-refused",
        "sign_in/show.html",
        nobody,
        SignIn(
            "mara", "This operator and password do not go together. 3 more tries, then a pause of 15 min.", State.WRONG
        ),
    )
    yield Sample(
        "sign-in-single",
        "sign_in/show.html",
        nobody,
        SignIn(message="You were signed out after 30 min without use.", single_sign_on="Keycloak"),
    )
    yield Sample(
        "sign-in-paused",
        "sign_in/show.html",
        nobody,
        SignIn("mara", "Too many tries. Signing in is possible again in 14 min.", State.ATTENTION, disabled=True),
    )
    yield Sample("password-first", "sign_in/password.html", FRAME, ChoosePassword("admin", first=True, at_least=12))
    yield Sample(
        "password-wrong",
        "sign_in/password.html",
        FRAME,
        ChoosePassword("mara", False, 12, "The current password is wrong; nothing was changed.", State.ATTENTION),
    )
    missing = Problem(
        404,
        "There is no card 04ZZ",
        "Neither ExpresSync nor SteVe knows a card with the idTag “04ZZ”.",
        "Check the idTag on the card, or search by a part of it. A brand-new card appears after its first tap.",
        "0196894e-0001-7c1a-9d3f-2b7e5a90c4d1",
        (Action("Search the cards", "/cards"),),
    )
    yield Sample("problem-missing", "problem/show.html", FRAME.at("cards"), missing)
    yield Sample(
        "problem-silent",
        "problem/show.html",
        FRAME.at("cards"),
        Problem(
            504,
            "Whether the card was linked is not known",
            "Sync did not answer within 3 s. The link may have been made, or not.",
            "Send it again: it is the same request, and is carried out once at most.",
            "0196894e-0002-7c1a-9d3f-2b7e5a90c4d1",
            (Action("Send it again", "/", post=True, primary=True), Action("Back to the card", "/")),
        ),
    )
    yield Sample(
        "problem-outside",
        "problem/show.html",
        nobody,
        Problem(
            500,
            "This page could not be made",
            "An unexpected error was logged.",
            "Try again; if it stays, send the reference to whoever runs ExpresSync.",
            "0196894e",
        ),
    )
