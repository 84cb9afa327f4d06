"""A refusal in words (RFC 9457): the same shape over HTTP and in a reply on the bus."""

from typing import Any

from pydantic import Field

from shared.contracts.identity import Frozen

PROBLEM_TYPE = "urn:expressync:problem:"


class ProblemDetails(Frozen):
    """RFC 9457, section 3. `code` is the tail of `type`, for programs; `detail` is a sentence for people."""

    type: str
    title: str
    status: int = Field(ge=400, le=599)
    detail: str
    code: str
    extra: dict[str, Any] = Field(default_factory=dict)


class Problem(Exception):  # noqa: N818 - RFC 9457 calls it a problem
    """Base of each domain's refusals. A subclass fixes `code`, `status`, `title`; `detail` says what to do."""

    code = "internal"
    status = 500
    title = "Something went wrong inside ExpresSync"

    def __init__(self, detail: str, **extra: Any) -> None:  # noqa: ANN401 - JSON values
        super().__init__(detail)
        self.detail = detail
        self.extra = extra

    def details(self) -> ProblemDetails:
        return ProblemDetails(
            type=PROBLEM_TYPE + self.code,
            title=self.title,
            status=self.status,
            detail=self.detail,
            code=self.code,
            extra=self.extra,
        )


class RemoteProblem(Problem):
    """A refusal that another service answered with; carries its details unchanged."""

    def __init__(self, details: ProblemDetails) -> None:
        super().__init__(details.detail, **details.extra)
        self.code, self.status, self.title = details.code, details.status, details.title


class NotFound(Problem):
    code, status, title = "not_found", 404, "There is nothing under that name"


class Conflict(Problem):
    code, status, title = "conflict", 409, "It stands differently than this change assumes"


class Invalid(Problem):
    code, status, title = "invalid", 422, "The request cannot be carried out as written"
