"""Coming in, going out, and choosing a password."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.admin_api import house as houses
from services.admin_api.access import opaque, rules
from services.admin_api.access.browser import CSRF_FIELD, check_form_secret
from services.admin_api.access.problems import (
    ForeignForm,
    OneTimePasswordExpired,
    OperatorIsDisabled,
    SignInRefused,
    TooManyAttempts,
    WeakPassword,
    WrongPassword,
)
from services.admin_api.console import paths
from services.admin_api.console.drawing.frame import bare_frame
from services.admin_api.console.view.password import ChoosePassword
from services.admin_api.console.view.sign_in import SignIn
from services.admin_api.console.view.state import State
from services.admin_api.console.visit import Visit, go, html, local, signed_in
from shared.contracts.problem import Problem
from shared.web.problems import log_refusal

_WHY = {
    "ended": "Your session has ended. Sign in to go on where you were.",
    "out": "You are signed out.",
}


async def show(request: Request) -> Response:
    """The form; whoever is signed in already goes on."""
    house = houses.of(request)
    token = house.cookies.read_session(request)
    target = local(request.query_params.get("next", "/"))
    if token and await house.authenticate.by_cookie(token):
        return go(target)
    message = _WHY.get(request.query_params.get("why", ""), "")
    return _form(request, SignIn(message=message, next=target))


async def submit(request: Request) -> Response:
    house = houses.of(request)
    form = await request.form()
    name, password = str(form.get("name", "")).strip(), str(form.get("password", ""))
    target = local(str(form.get("next", "/")))
    typed = SignIn(name=name[:64], next=target)
    try:
        house.origins.check(request.headers)
        secret, missing = house.cookies.form_secret(request)
        check_form_secret(None if missing else secret, str(form.get(CSRF_FIELD, "")))
        signed = await house.sign_in.sign_in(
            name,
            password[: rules.LONGEST_PASSWORD + 1],
            source=houses.source(request),
            kind="browser",
            previous=house.cookies.read_session(request),
        )
    except (SignInRefused, OperatorIsDisabled, OneTimePasswordExpired, TooManyAttempts, ForeignForm) as refused:
        log_refusal(refused, request.url.path)
        return _form(request, _refused(typed, refused), status=refused.status)
    response = go(paths.PASSWORD if signed.caller.must_change_password else target)
    house.cookies.give_session(response, signed.token, signed.expires_at)
    return response


async def sign_out(visit: Visit) -> Response:
    await visit.house.sign_in.sign_out(visit.caller)
    response = go(paths.address(paths.SIGN_IN, {"why": "out"}))
    visit.house.cookies.take_session(response)
    return response


async def show_password(visit: Visit) -> Response:
    first = visit.caller.must_change_password
    message = "Your one-time password has served its purpose. Choose your own to go on." if first else ""
    return visit.html("sign_in/password.html", _choose(visit, message), visit.frame)


async def submit_password(visit: Visit) -> Response:
    new, again = visit.typed("password"), visit.typed("again")
    if new != again:
        page = _choose(visit, "The two new passwords are not the same. Nothing was changed.", State.ATTENTION)
        return visit.html("sign_in/password.html", page, status=422)
    try:
        signed = await visit.house.sign_in.change_password(
            visit.caller, visit.typed("current"), new, source=houses.source(visit.request)
        )
    except (WeakPassword, WrongPassword, TooManyAttempts) as refused:
        log_refusal(refused, visit.request.url.path)
        page = _choose(visit, refused.detail, State.ATTENTION)
        return visit.html("sign_in/password.html", page, status=refused.status)
    response = go(paths.OVERVIEW)
    visit.house.cookies.give_session(response, signed.token, signed.expires_at)
    return response


def _choose(visit: Visit, message: str, state: State = State.NEUTRAL) -> ChoosePassword:
    return ChoosePassword(visit.caller.name, visit.caller.must_change_password, rules.SHORTEST_PASSWORD, message, state)


def _refused(typed: SignIn, refused: Problem) -> SignIn:
    return SignIn(name=typed.name, message=refused.detail, state=State.ATTENTION, next=typed.next)


def _form(request: Request, page: SignIn, *, status: int = 200) -> Response:
    house = houses.of(request)
    secret, fresh = house.cookies.form_secret(request)
    response = html(request, "sign_in/show.html", bare_frame(house, opaque.csrf_token(secret)), page, status=status)
    if fresh:
        house.cookies.give_form(response, secret)
    return response


routes = [
    Route(paths.SIGN_IN, show, methods=["GET"]),
    Route(paths.SIGN_IN, submit, methods=["POST"]),
    Route(paths.SIGN_OUT, signed_in(sign_out, before_own_password=True), methods=["POST"]),
    Route(paths.PASSWORD, signed_in(show_password, before_own_password=True), methods=["GET"]),
    Route(paths.PASSWORD, signed_in(submit_password, before_own_password=True), methods=["POST"]),
]
