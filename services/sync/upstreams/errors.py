"""What can go wrong with SteVe and Lago. Whether trying again can help is decided here, where the error is born."""

from typing import Any, ClassVar, Literal

from shared.contracts.events.sync import Upstream

Reason = Literal[
    "unreachable",  # no connection, or it broke
    "timed_out",  # connected, no answer in time
    "server_error",  # 5xx
    "rate_limited",  # 429
    "unauthorized",  # 401: the credentials are wrong
    "forbidden",  # 403
    "redirected",  # 3xx: usually a login page
    "not_json",  # a proxy's or a login's HTML
    "unexpected_form",  # JSON that is not what this upstream answers
    "not_asked",  # the circuit is open
    "refused",  # any other 4xx: about this one request
    "another_steve",  # it is not the database that it is said to be
    "billing_gate",  # it is not set up so that what is sent would be billed
]
NAMES: dict[Upstream, str] = {"steve": "SteVe", "lago": "Lago"}


class UpstreamError(Exception):
    """Base. `transient`: the same request may succeed later, so the work waits. Says nothing of what was done:
    a write that ended in a transient error may have been carried out.
    """

    transient: ClassVar[bool] = True
    misconfigured: ClassVar[bool] = False

    def __init__(
        self,
        upstream: Upstream,
        reason: Reason,
        explanation: str,
        *,
        retry_after_s: float | None = None,
        sent: bool = True,
    ) -> None:
        super().__init__(f"{NAMES[upstream]}: {explanation}")
        # False: it cannot have been carried out.
        self.sent = sent
        self.upstream, self.reason, self.explanation = upstream, reason, explanation
        self.retry_after_s = retry_after_s


class UnavailableError(UpstreamError):
    """It does not answer, or answers that it cannot right now."""


class NotAskedError(UpstreamError):
    """It failed so often that it is left alone for a moment; nothing was sent."""

    def __init__(self, upstream: Upstream, wait_s: float) -> None:
        words = f"failed repeatedly and is left alone for {wait_s:.0f} s"
        super().__init__(upstream, "not_asked", words, retry_after_s=wait_s, sent=False)


class MisconfiguredError(UpstreamError):
    """It answers, but not to us: credentials, address or a proxy are wrong. Work waits until somebody repairs it."""

    misconfigured: ClassVar[bool] = True


class RefusedError(UpstreamError):
    """It understood this request and will not do it; the same request will be refused again."""

    transient: ClassVar[bool] = False

    def __init__(self, upstream: Upstream, status: int, body: dict[str, Any]) -> None:
        message = (
            body.get("message") or body.get("error_details") or body.get("code") or body.get("error") or "no reason"
        )
        super().__init__(upstream, "refused", f"answered {status}: {message}")
        self.status, self.body = status, body
