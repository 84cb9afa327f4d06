"""How SteVe, Lago and the broker stand, as last heard: kept here so that no page waits for it."""

from datetime import datetime
from typing import Final, Literal

from pydantic import AwareDatetime

from shared.bus.requests import NoAnswerError, Requester
from shared.contracts.identity import Actor, Frozen
from shared.contracts.problem import RemoteProblem
from shared.contracts.requests.sync import GetUpstreams, UpstreamList
from shared.runtime.clock import Clock

ASK_EVERY_S: Final = 5.0
ASK_DEADLINE_S: Final = 3.0
# Three turns without an answer: what was heard before says nothing about now.
STALE_AFTER_S: Final = 20.0

_WORDS: Final = {"steve": "SteVe", "lago": "Lago"}
_WELL: Final = {
    "steve": "Cards and sessions are read from it.",
    "lago": "Usage is sent to it and read back.",
}


class UpstreamState(Frozen):
    """`state` unknown: nobody has said, or not for a while. `checked_at`: when it was last looked at."""

    name: Literal["steve", "lago", "broker"]
    state: Literal["ok", "lost", "unknown"]
    sentence: str
    since: AwareDatetime | None = None
    checked_at: AwareDatetime | None = None


class UpstreamWatch:
    """Asks sync every few seconds, and knows the broker itself."""

    def __init__(self, requester: Requester, clock: Clock) -> None:
        self._requester, self._clock = requester, clock
        self._heard: UpstreamList | None = None
        self._heard_at: datetime | None = None
        self._why = "sync has not been asked yet"
        self._broker_ok: bool | None = None
        self._broker_since: datetime | None = None

    async def refresh(self) -> None:
        """Ask once; periodic."""
        self._look_at_broker()
        actor = Actor(kind="system", id="admin_api")
        try:
            self._heard = await self._requester.ask(GetUpstreams(), actor=actor, deadline_s=ASK_DEADLINE_S)
            self._heard_at = self._clock()
        except (NoAnswerError, RemoteProblem) as error:
            self._why = f"sync did not answer: {error.why if isinstance(error, NoAnswerError) else error.detail}"

    def now(self) -> list[UpstreamState]:
        """SteVe, Lago and the broker, in this order, always all three."""
        self._look_at_broker()
        return [self._upstream("steve"), self._upstream("lago"), self._broker()]

    def _look_at_broker(self) -> None:
        connected = self._requester.connected
        if connected != self._broker_ok:
            self._broker_ok, self._broker_since = connected, self._clock()

    def _upstream(self, name: Literal["steve", "lago"]) -> UpstreamState:
        word = _WORDS[name]
        heard = next((each for each in self._heard.upstreams if each.upstream == name), None) if self._heard else None
        fresh = self._heard_at and (self._clock() - self._heard_at).total_seconds() <= STALE_AFTER_S
        if heard is None or not fresh:
            return UpstreamState(name=name, state="unknown", sentence=f"Nobody knows how {word} stands: {self._why}.")
        sentences = {
            "ok": _WELL[name],
            "lost": heard.explanation or f"{word} does not answer as it should; nothing is lost, work waits.",
            "unknown": f"{word} has not been asked yet.",
        }
        return UpstreamState(
            name=name,
            state=heard.state,
            sentence=sentences[heard.state] + (self._failed_webhooks() if name == "lago" else ""),
            since=heard.since,
            checked_at=heard.checked_at,
        )

    def _failed_webhooks(self) -> str:
        """A sentence to go on with. Nothing is lost with them: polling finds what they told, later."""
        webhooks = self._heard.webhooks if self._heard else None
        if webhooks is None or not webhooks.failed:
            return ""
        some = f"{webhooks.failed} of its webhooks" if webhooks.failed > 1 else "One of its webhooks"
        return f" {some} could not be acted on: see `expressync sync webhooks`."

    def _broker(self) -> UpstreamState:
        ok = bool(self._broker_ok)
        return UpstreamState(
            name="broker",
            state="ok" if ok else "lost",
            sentence="Events are passed on as they happen." if ok else "Not connected; events wait, nothing is lost.",
            since=self._broker_since,
            checked_at=self._clock(),
        )
