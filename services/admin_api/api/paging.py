from typing import Generic, TypeVar

from pydantic import Field

from shared.contracts.identity import Frozen

T = TypeVar("T")


class Page(Frozen, Generic[T]):
    """Part of a list; `next_cursor` is null on the last page."""

    items: list[T]
    next_cursor: str | None = Field(None, description="pass it as `cursor` to read on")
