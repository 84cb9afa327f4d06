"""What can go wrong with SteVe and Lago. Whether trying again can help is decided here, where the error is born."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    "no_such_route",  # a 404 that is about no resource of its own: the address is wrong
    "unexpected_form",  # JSON that is not what this upstream answers
    "not_asked",  # the circuit is open
    "refused",  # any other 4xx: about this one request
    "reading_refused",  # any other 4xx to what everything is read by
    "another_steve",  # it is not the database that it is said to be
    "billing_gate",  # it is not set up so that what is sent would be billed
]
NAMES: dict[Upstream, str] = {"steve": "SteVe", "lago": "Lago"}


# Whoever answers so has not done what was asked for. An answer that cannot be read says nothing of the sort.
_NOT_DONE: frozenset[Reason] = frozenset(
    {
        "unauthorized",
        "forbidden",
        "redirected",
        "no_such_route",
        "not_asked",
        "refused",
        "reading_refused",
        "another_steve",
    }
)


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

    @property
    def may_have_been_done(self) -> bool:
        """Whether a write that ended like this may have been carried out."""
        return self.sent and self.reason not in _NOT_DONE


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

    def __init__(self, upstream: Upstream, status: int, body: dict[str, Any], *, quoting: bool = True) -> None:
        """:param quoting: False: its words stay out of the explanation."""
        message = (
            body.get("message") or body.get("error_details") or body.get("code") or body.get("error") or "no reason"
        )
        super().__init__(upstream, "refused", f"answered {status}: {message}" if quoting else f"answered {status}")
        self.status, self.body = status, body


@contextmanager
def not_read(what: str, object_to: Callable[[UpstreamError | None], None]) -> Iterator[None]:
    """A refusal of what everything is read by is no matter of one request: nothing is read at all until somebody
    repairs it.
    """
    try:
        yield
    except RefusedError as error:
        words = f"refuses what its {what} are read by (it {error.explanation}); is the release we are told its own?"
        fault = MisconfiguredError(error.upstream, "reading_refused", words)
        object_to(fault)
        raise fault from error
    object_to(None)
