"""What somebody answered, or that nobody did: two types, so that silence cannot be read as a value."""

from datetime import datetime
from typing import Generic, Literal, TypeVar

from pydantic import AwareDatetime, Field
from typing_extensions import TypeAliasType

from shared.contracts.identity import Frozen

T = TypeVar("T")
V = TypeVar("V")


class Answered(Frozen, Generic[T]):
    """The owner's answer, as of `as_of`. A value of null means: it answered that there is none."""

    answered: Literal[True] = True
    value: T
    as_of: AwareDatetime


class Silent(Frozen):
    """Unknown: `who` did not answer. `why` goes on from "SteVe did not answer: "."""

    answered: Literal[False] = False
    who: str = Field(description="SteVe, Lago, sync, preauth or audit")
    why: str
    as_of: AwareDatetime = Field(description="when it was asked")

    @property
    def sentence(self) -> str:
        """The silence in words, for people."""
        return f"{self.who[:1].upper()}{self.who[1:]} did not answer: {self.why.rstrip('.')}."


Part = TypeAliasType("Part", Answered[V] | Silent, type_params=(V,))
"""A part of a page or of a diagnosis, each of which may be unknown without the rest being so."""


def silent(who: str, why: str, at: datetime) -> Silent:
    return Silent(who=who, why=why, as_of=at)
