"""Refusals of the sign-in and of what operators do with operators and tokens."""

from datetime import timedelta

from shared.contracts.problem import Conflict, Invalid, NotFound, Problem
from shared.web.problems import Forbidden, Unauthorized


class NotSignedIn(Unauthorized):
    code, title = "not_signed_in", "Nobody is signed in"

    def __init__(self) -> None:
        super().__init__("Sign in, or send an API token as `Authorization: Bearer …`.")


class BadToken(Unauthorized):
    code, title = "bad_token", "This token is not valid"

    def __init__(self) -> None:
        super().__init__(
            "The token is unknown, expired or revoked. Sign in again, or ask an administrator for a new one."
        )


class SignInRefused(Unauthorized):
    """The same words for a name that does not exist and for a wrong password."""

    code, title = "sign_in_refused", "The sign-in was refused"

    def __init__(self) -> None:
        super().__init__("The name or the password is wrong. An administrator can give you a new password.")


class OperatorIsDisabled(Forbidden):
    """Told only to who knows the password."""

    code, title = "operator_disabled", "This operator is disabled"

    def __init__(self, name: str) -> None:
        super().__init__(f"The operator {name} is disabled. An administrator can enable it again.")


class OneTimePasswordExpired(Forbidden):
    code, title = "one_time_password_expired", "The one-time password has expired"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The one-time password of {name} was not used in time. An administrator can give a new one; for the first "
            "operator, start ExpresSync again."
        )


class TooManyAttempts(Problem):
    code, status, title = "too_many_attempts", 429, "Too many attempts"

    def __init__(self, wait: timedelta) -> None:
        self.retry_after_s = max(1, int(wait.total_seconds()) + 1)
        super().__init__(
            f"There were too many attempts to sign in. Try again in {self.retry_after_s} s.",
            retry_after_s=self.retry_after_s,
        )


class PasswordChangeRequired(Forbidden):
    code, title = "password_change_required", "Choose your own password first"

    def __init__(self) -> None:
        super().__init__("You signed in with a one-time password. Choose your own before anything else.")


class WeakPassword(Invalid):
    code, title = "weak_password", "This password is not good enough"


class WrongPassword(Forbidden):
    code, title = "wrong_password", "The current password is wrong"

    def __init__(self) -> None:
        super().__init__("The current password is wrong; nothing was changed.")


class RoleTooLow(Forbidden):
    code = "role_too_low"

    def __init__(self, role: str, needed: str) -> None:
        super().__init__(f"Your role is {role}; this needs {needed}. An administrator can change your role.")


class ForeignForm(Forbidden):
    """A form or a script of another site, or a page that was open for too long (OWASP: cross-site request forgery)."""

    code, title = "foreign_form", "This form does not come from this console"

    def __init__(self, why: str) -> None:
        super().__init__(f"{why} Open the page again and repeat what you did; nothing was changed.")


class BadOperatorName(Invalid):
    code, title = "bad_operator_name", "This cannot be an operator's name"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name!r} cannot be a name: it takes 1 to 64 of a-z, 0-9, dot, dash, underscore and @, and starts with a "
            "letter or a digit."
        )


class OperatorExists(Conflict):
    code, title = "operator_exists", "There is an operator of that name"

    def __init__(self, name: str) -> None:
        super().__init__(f"The operator {name} exists already. Choose another name, or change that operator.")


class NoSuchOperator(NotFound):
    code, title = "no_such_operator", "There is no operator of that name"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no operator {name}. `GET /api/v1/operators` lists them.")


class LastAdmin(Conflict):
    code, title = "last_admin", "Nobody could administer ExpresSync any more"

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is the only administrator left. Make somebody else an administrator first.")


class TokenNameTaken(Conflict):
    code, title = "token_name_taken", "There is a token of that name"

    def __init__(self, name: str) -> None:
        super().__init__(f"A token named {name} exists and is not revoked. Revoke it first, or choose another name.")


class NoSuchToken(NotFound):
    code, title = "no_such_token", "There is no such token"

    def __init__(self, token_id: str) -> None:
        super().__init__(f"There is no token {token_id}. `GET /api/v1/tokens` lists them.")
