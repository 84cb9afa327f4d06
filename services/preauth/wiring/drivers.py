"""Pairings, presence and logins."""

import time
from dataclasses import dataclass
from datetime import timedelta

from starlette.applications import Starlette

from services.preauth.login.account import Account
from services.preauth.login.api import Api
from services.preauth.login.attempts import Attempts
from services.preauth.login.away import on_failure
from services.preauth.login.binding import Bindings
from services.preauth.login.browser import Browsers, parse_proxies
from services.preauth.login.completing import Login
from services.preauth.login.screens.binding import BindingPages
from services.preauth.login.screens.http import Pages
from services.preauth.login.screens.render import Screens
from services.preauth.login.stream import LOOK_EVERY_S, Watch
from services.preauth.login.tokens import Tokens, parse_audiences
from services.preauth.login.tokens import parse_keys as parse_token_keys
from services.preauth.pairing.arming import Arming
from services.preauth.pairing.handlers import Pairings
from services.preauth.pairing.kiosks import Kiosks
from services.preauth.pairing.pins import Pins
from services.preauth.pairing.qr import QrCodes
from services.preauth.pairing.rules import Budgets
from services.preauth.settings import PreauthSettings
from shared.bus.requests import NoAnswerError
from shared.contracts.problem import Problem
from shared.contracts.requests import preauth as asked
from shared.runtime.service import Service
from shared.runtime.supervisor import Every
from shared.web.problems import on_no_answer, on_problem

EXPIRE_EVERY_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverParts:
    """Pairings, presence and logins."""

    arming: Arming
    pairings: Pairings
    kiosks: Kiosks
    login: Login
    watch: Watch
    app: Starlette


def wire_drivers(service: Service, settings: PreauthSettings, watch: Watch) -> DriverParts:
    """Wire pairings, presence and logins: what operators ask for on the bus, and drivers over HTTP."""
    database, outbox, clock, new_id = service.database, service.outbox, service.clock, service.new_id
    budgets = Budgets.of(
        charger=settings.scans_per_charger,
        kiosk=settings.scans_per_kiosk,
        source=settings.scans_per_source,
        cooldown_s=settings.cooldown_s,
    )
    arming = Arming(database, outbox, clock=clock, new_id=new_id, budgets=budgets, qr_is_strong=settings.qr_is_strong)
    pairings = Pairings(database, arming)
    qr_codes = QrCodes(database, outbox, clock=clock, public_url=settings.public_url)
    pins = Pins(database, outbox, clock=clock)
    answer = service.dispatcher
    answer.command(asked.ArmPairing, pairings.arm_pairing)
    answer.command(asked.CancelPairing, pairings.cancel_pairing)
    answer.query(asked.ListPairings, pairings.list_pairings)
    answer.command(asked.RotateChargerQr, qr_codes.rotate_charger_qr)
    answer.query(asked.PrintChargerQr, qr_codes.print_charger_qr)
    answer.command(asked.SetCardPin, pins.set_card_pin)
    login = Login(
        database,
        outbox,
        service.requester,
        pins,
        clock=clock,
        new_id=new_id,
        idle_s=settings.driver_idle_s,
        longest_s=settings.driver_longest_s,
    )
    kiosks = Kiosks(database, outbox, clock=clock, new_id=new_id, sign_out=login.end_at_kiosk)
    answer.command(asked.EnrolKiosk, kiosks.enrol_kiosk)
    answer.command(asked.RevokeKiosk, kiosks.revoke_kiosk)
    answer.query(asked.ListKiosks, kiosks.list_kiosks)
    service.parts += [
        Every("pairings.expire", EXPIRE_EVERY_S, pairings.expire),
        Every("pairings.watch", LOOK_EVERY_S, watch.look),
        watch,
        Every("login.end_old", EXPIRE_EVERY_S, login.end_old),
    ]
    tokens = Tokens(
        database,
        clock,
        new_id,
        issuer=settings.public_url,
        audiences=parse_audiences(settings.audiences),
        keys=parse_token_keys(settings.token_keys.get_secret_value()),
        valid_s=settings.token_valid_s,
    )
    browsers = Browsers(
        secure=settings.public_url.startswith("https://"),
        proxies=parse_proxies(settings.trusted_proxies),
    )
    api = Api(
        database=database,
        arming=arming,
        login=login,
        tokens=tokens,
        watch=watch,
        browsers=browsers,
        clock=clock,
    )
    screens = Screens()
    bindings = Bindings(
        database=database,
        outbox=outbox,
        clock=clock,
        idle=timedelta(seconds=settings.driver_idle_s),
        longest=timedelta(seconds=settings.driver_longest_s),
    )
    binding = BindingPages(
        bindings=bindings,
        login=login,
        browsers=browsers,
        attempts=Attempts(time.monotonic),
        screens=screens,
        public_url=settings.public_url,
    )
    pages = Pages(
        database=database,
        arming=arming,
        kiosks=kiosks,
        login=login,
        tokens=tokens,
        account=Account(service.requester),
        bindings=bindings,
        browsers=browsers,
        attempts=Attempts(time.monotonic),
        idle_s=settings.driver_idle_s,
        clock=clock,
        screens=screens,
    )
    handlers = {
        Problem: pages.or_else(on_problem),
        NoAnswerError: pages.or_else(on_no_answer),
        Exception: pages.or_else(on_failure),
    }
    app = Starlette(routes=[*api.routes(), *pages.routes(), *binding.routes()], exception_handlers=handlers)
    return DriverParts(arming=arming, pairings=pairings, kiosks=kiosks, login=login, watch=watch, app=app)
