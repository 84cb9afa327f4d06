"""Why a card is not changed, in words that say what to do."""

from datetime import datetime

from services.sync.upstreams.errors import NAMES, UpstreamError
from shared.contracts.problem import Conflict, Invalid, NotFound, Problem


class CardUnknown(NotFound):
    code, title = "card_unknown", "There is no such card"

    def __init__(self, id_tag: str) -> None:
        super().__init__(
            f"Neither SteVe nor ExpresSync has a card {id_tag}. Check the spelling, or create it.", id_tag=id_tag
        )


class CardGone(Conflict):
    code, title = "card_gone", "SteVe has this card no longer"

    def __init__(self, id_tag: str) -> None:
        super().__init__(f"Card {id_tag} was deleted in SteVe. Create it again to use it.", id_tag=id_tag)


class CardExists(Conflict):
    code, title = "card_exists", "SteVe has this card already"

    def __init__(self, id_tag: str) -> None:
        super().__init__(f"SteVe has a card {id_tag} already; spelling does not tell cards apart.", id_tag=id_tag)


class CardExpired(Conflict):
    code, title = "card_expired", "SteVe does not write an expired card"

    def __init__(self, id_tag: str, expiry: datetime) -> None:
        super().__init__(
            f"Card {id_tag} expired at {expiry:%Y-%m-%d %H:%M} UTC, and SteVe takes no change of it as long as it is."
            " Set a new expiry first, or none."
        )


class ExpiryPast(Invalid):
    code, title = "expiry_past", "The expiry must lie in the future"

    def __init__(self, expiry: datetime) -> None:
        super().__init__(f"{expiry:%Y-%m-%d %H:%M} UTC has passed. To stop a card now, block it.")


class AlreadyBlocked(Conflict):
    code, title = "already_blocked", "The card is blocked already"

    def __init__(self, id_tag: str, by: str, reason: str) -> None:
        super().__init__(f"Card {id_tag} was blocked by {by}: {reason}.")


class NotBlocked(Conflict):
    code, title = "not_blocked", "The card is not blocked"

    def __init__(self, id_tag: str) -> None:
        super().__init__(f"Card {id_tag} is not blocked; there is nothing to lift.")


class BlockedByPolicy(Conflict):
    code, title = "blocked_by_policy", "The policy blocks this card"

    def __init__(self, id_tag: str, reason: str) -> None:
        super().__init__(
            f"The policy wants card {id_tag} blocked because {reason}. Remove that first; the policy then lifts what it"
            " blocked itself."
        )


class AlreadySo(Conflict):
    code, title = "already_so", "There is nothing to change"

    def __init__(self, id_tag: str, what: str) -> None:
        super().__init__(f"Card {id_tag} has this {what} already, in SteVe and here.")


class LimitUnknown(Invalid):
    code, title = "limit_unknown", "No limit is remembered for this card"

    def __init__(self, id_tag: str) -> None:
        super().__init__(
            f"Card {id_tag} was blocked in SteVe itself, so the limit it had is not known. Say which it shall have:"
            " 1 for one session at once, -1 for any number."
        )


class ParentUnknown(Invalid):
    code, title = "parent_unknown", "There is no such parent card"

    def __init__(self, id_tag: str) -> None:
        super().__init__(f"SteVe has no card {id_tag} that could be a parent. Create it first.")


class ParentCycle(Conflict):
    code, title = "parent_cycle", "Cards cannot be each other's parents"

    def __init__(self, id_tag: str, parent: str) -> None:
        super().__init__(f"{parent} stands below {id_tag} already, or is the same card. Choose another parent.")


class WriteConflict(Conflict):
    code, title = "write_conflict", "SteVe has something else than was written"

    def __init__(self, id_tag: str, differing: list[str]) -> None:
        super().__init__(
            f"After the change, SteVe's record of {id_tag} differs in {', '.join(differing)}: somebody changes it"
            " at the same time. Look at it, and try again."
        )


class WriteRefused(Conflict):
    code, title = "write_refused", "SteVe refuses the change"

    def __init__(self, id_tag: str, error: UpstreamError) -> None:
        super().__init__(f"SteVe did not change {id_tag}: it {error.explanation}.")


class UpstreamSilent(Problem):
    """Nobody knows, which is not the same as no."""

    code, status, title = "upstream_did_not_answer", 503, "SteVe or Lago did not answer"

    def __init__(self, error: UpstreamError) -> None:
        super().__init__(f"{NAMES[error.upstream]} could not be asked: it {error.explanation}. Try again later.")
        self.error = error


class OutcomeUnknown(Problem):
    code, status, title = "outcome_unknown", 504, "It is not known whether SteVe has changed the card"

    def __init__(self, id_tag: str, error: UpstreamError) -> None:
        super().__init__(
            f"SteVe {error.explanation} while {id_tag} was being changed. The card page shows what it has as soon as it"
            " answers again."
        )


class ChangeUnknown(NotFound):
    code, title = "change_unknown", "There is no such change"

    def __init__(self, change_id: object) -> None:
        super().__init__(f"No change {change_id} is known here.")


class CannotUndo(Conflict):
    code, title = "cannot_undo", "The change cannot be undone any more"
