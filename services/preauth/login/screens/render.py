"""Turns a view model into a driver's page. Nothing here knows who looks at it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from starlette.responses import HTMLResponse, Response

from services.preauth.login.screens import stages, view
from services.preauth.login.screens.view import Frame, Page
from services.preauth.login.screens.words import Words
from shared.web import figures, times
from shared.web.pages import SECURITY_HEADERS, Assets, environment

HERE: Final = Path(__file__).parent

HEADERS: Final[Mapping[str, str]] = {
    **SECURITY_HEADERS,
    "Cache-Control": "no-store",
    # The key of a QR code stands in an address, so no other site learns it. Not "no-referrer": under that, browsers
    # send these pages' own forms with "Origin: null" (Fetch, 3.2), as they send another site's.
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
"""For every page and every redirect of a driver."""

LEAVING: Final[Mapping[str, str]] = {**HEADERS, "Clear-Site-Data": '"cache", "storage"'}
"""For the answer that signs a driver out: nothing of the page stays behind, not even for the back button."""

TEMPLATES: Final[Mapping[type[Page], str]] = {
    view.Scan: "scan/show.html",
    view.NoCharger: "scan/choose.html",
    view.Me: "me/show.html",
    view.SignedOut: "me/out.html",
    view.Kiosk: "kiosk/show.html",
    view.Enrol: "kiosk/enrol.html",
    view.Offer: "bind/offer.html",
    view.Bind: "bind/ask.html",
    view.Bound: "bind/done.html",
    view.Trouble: "frame/trouble.html",
}


class Screens:
    """The drivers' templates and assets. Made once, at start."""

    def __init__(self, language: str = "en") -> None:
        words = Words(language)
        self.assets = Assets(HERE / "static")
        self._jinja = environment(HERE / "templates")
        self._jinja.globals.update(
            assets=self.assets.address,
            figures=figures,
            times=times,
            say=words,
            language=words.language,
            spoken=dict(words.part("script")),
            looks=stages.LOOKS,
            waiting=stages.WAITING,
            pins=stages.PINS,
            leads={
                "states": stages.OF_STATE,
                "cards": stages.OF_OTHER_CARD,
                "results": stages.OF_RESULT,
                "problems": stages.OF_PROBLEM,
                "pins": sorted(stages.PINS),
            },
            paths=view,
        )

    def render(self, frame: Frame, page: Page) -> str:
        """The HTML of a page. Send it with `HEADERS`."""
        return self._jinja.get_template(TEMPLATES[type(page)]).render(frame=frame, page=page)

    def page(self, frame: Frame, page: Page, *, status: int = 200) -> Response:
        return HTMLResponse(self.render(frame, page), status, headers=dict(HEADERS))
