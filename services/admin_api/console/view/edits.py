"""Editing a card: how it stands, what each change will do, and the undo of the last one."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from services.admin_api.console import paths
from services.admin_api.console.view.cards import Card

Section = Literal["block", "unblock", "parent", "expiry", "unlink", "local", "undo"]
SECTIONS: tuple[Section, ...] = ("block", "unblock", "parent", "expiry", "unlink", "local", "undo")

CARD_TYPES = (("ev_card", "EV card"), ("keytag", "Keytag"), ("app", "App"), ("meta", "Meta-card"))


@dataclass(frozen=True, slots=True)
class Block:
    """Who blocks it. `by` and `at` are empty where somebody did it in SteVe itself."""

    kind: Literal["operator", "policy", "steve"]
    reason: str = ""
    by: str = ""
    at: datetime | None = None
    remembered: str = ""
    """The limit that lifting it restores, in words; empty where none is known."""


@dataclass(frozen=True, slots=True)
class LastChange:
    """What `undo` takes back. Without a `title`, audit did not say what it was."""

    change_id: str
    title: str = ""
    detail: str = ""
    by: str = ""
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a change was not made, beside its form, and what was typed there."""

    section: Section
    sentence: str
    unknown: bool = False


@dataclass(frozen=True, slots=True)
class EditPage:
    """`kept` holds the fields as they stand; `typed` too or, after a fault, as they were typed."""

    card: Card
    block: Block | None
    limit: str
    last: LastChange | None
    kept: dict[str, str]
    typed: dict[str, str]
    may_edit: bool = False
    fault: Fault | None = None
    keys: dict[str, str] = field(default_factory=dict)
    wanted: Block | None = None
    """A block that was asked for while SteVe's record is without one: whether it was carried out was not known."""

    @property
    def banner(self) -> str:
        return self.card.steve.banner

    @property
    def card_types(self) -> tuple[tuple[str, str], ...]:
        return CARD_TYPES

    def action(self, section: Section) -> str:
        return f"{paths.card_edit(self.card.id_tag)}/{section}"

    def fault_in(self, section: Section) -> Fault | None:
        return self.fault if self.fault is not None and self.fault.section == section else None
