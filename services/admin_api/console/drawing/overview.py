"""The overview from the API's answer."""

from services.admin_api.answers import Answered, Part, Silent
from services.admin_api.api.overview import COUNTED
from services.admin_api.api.overview import Overview as Found
from services.admin_api.console.drawing import events
from services.admin_api.console.drawing.frame import upstreams
from services.admin_api.console.view.overview import Overview, Waiting
from shared.contracts.requests.preauth import InterceptionState
from shared.contracts.requests.sync import SessionPage, SessionView


def overview(found: Found) -> Overview:
    taps = None if isinstance(found.taps, Silent) else tuple(events.tap(view) for view in found.taps.value.taps)
    sessions = found.sessions
    listed: Part[list[SessionView]] = sessions if isinstance(sessions, Silent) else _listed(sessions)
    return Overview(
        upstreams=upstreams(found.upstreams),
        waiting=(
            _waiting(
                "held session",
                found.held,
                "Each is kept back with a reason, and is not billed until somebody decides.",
            ),
            _waiting(
                "session to be sent",
                found.pending,
                "They are sent to Lago by themselves; nothing is lost while they wait.",
                many="sessions to be sent",
                tolerable=True,
            ),
        ),
        taps=taps,
        sessions=events.sessions(listed),
        banners=_banners(found.interception),
    )


def _banners(part: Part[InterceptionState]) -> tuple[str, ...]:
    """What somebody switched or accepted, and somebody else should not have to find out. Silence is said elsewhere."""
    if isinstance(part, Silent):
        return ()
    banners = []
    if part.value.qr_is_strong:
        banners.append(
            "QR codes count as strong: whoever has a photo of one is logged in as the next card held to its charger."
            " EXPRESSYNC_PREAUTH_QR_IS_STRONG=false takes that back."
        )
    if not part.value.everywhere:
        banners.append("Interception is switched off everywhere: every tap charges, and nobody can sign in by card.")
    elif part.value.off_at:
        banners.append(f"Interception is switched off at {', '.join(part.value.off_at)}: every tap charges there.")
    return tuple(banners)


def _listed(page: Answered[SessionPage]) -> Answered[list[SessionView]]:
    return Answered(value=page.value.sessions, as_of=page.as_of)


def _waiting(one: str, part: Part[SessionPage], sentence: str, *, many: str = "", tolerable: bool = False) -> Waiting:
    many = many or f"{one}s"
    if isinstance(part, Silent):
        return Waiting(one, many, None, sentence, tolerable=tolerable)
    found = part.value.sessions
    more = f" At least {COUNTED}; the oldest of these is shown." if part.value.next_cursor else ""
    oldest = min((session.stopped_at or session.started_at for session in found), default=None)
    return Waiting(one, many, len(found), sentence + more, oldest=oldest, tolerable=tolerable)
