"""Writing a tag in SteVe: every field, read back and compared (facts 3 to 5)."""

from collections.abc import Awaitable, Callable
from datetime import datetime

from services.sync.cards.problems import (
    CardExists,
    CardExpired,
    CardGone,
    OutcomeUnknown,
    UpstreamSilent,
    WriteConflict,
    WriteRefused,
)
from services.sync.steve.client import SteveClient
from services.sync.steve.models import Tag, TagForm
from services.sync.upstreams.errors import RefusedError, UpstreamError
from shared.runtime.clock import Clock


class TagWriter:
    """`same_steve` raises where the SteVe that answers is another one: nothing is written to it.

    `urgent`: a person waits, so it is asked even while the circuit is open.
    """

    def __init__(
        self, steve: SteveClient, clock: Clock, *, same_steve: Callable[[], Awaitable[None]], urgent: bool
    ) -> None:
        self._steve, self._clock, self._same_steve, self._urgent = steve, clock, same_steve, urgent

    async def read(self, id_tag: str) -> Tag:
        """:raises CardGone, UpstreamSilent:"""
        found = await self.look_up(id_tag)
        if found is None:
            raise CardGone(id_tag)
        return found

    async def look_up(self, id_tag: str) -> Tag | None:
        """:raises UpstreamSilent:"""
        try:
            await self._same_steve()
            return await self._steve.find_tag(id_tag, urgent=self._urgent)
        except UpstreamError as error:
            raise UpstreamSilent(error) from error

    def form(self, tag: Tag, change: Callable[[TagForm], TagForm]) -> TagForm:
        """The whole form with the change in it. :raises CardExpired: SteVe would refuse it as it is."""
        form = change(TagForm.of(tag))
        if form.expiry_date is not None and form.expiry_date <= self._clock():
            raise CardExpired(tag.id_tag, form.expiry_date)
        return form

    async def write(self, tag: Tag, form: TagForm) -> Tag:
        """Replace the tag and read it back.

        :raises WriteRefused: nothing was changed.
        :raises WriteConflict: it was written, and something else is there.
        :raises OutcomeUnknown: it may have been written.
        """
        try:
            await self._steve.replace_tag(tag.ocpp_tag_pk, form)
        except RefusedError as error:
            raise WriteRefused(tag.id_tag, error) from error
        except UpstreamError as error:
            if not error.may_have_been_done:
                raise UpstreamSilent(error) from error
            return await self._after_unknown(tag.id_tag, form, error)
        return await self._compared(form)

    async def create(self, form: TagForm) -> Tag:
        """:raises CardExists, WriteRefused, WriteConflict, OutcomeUnknown, UpstreamSilent:"""
        if await self.look_up(form.id_tag) is not None:
            raise CardExists(form.id_tag)
        try:
            await self._steve.create_tag(form)
        except RefusedError as error:
            raise WriteRefused(form.id_tag, error) from error
        except UpstreamError as error:
            if not error.may_have_been_done:
                raise UpstreamSilent(error) from error
            return await self._after_unknown(form.id_tag, form, error)
        return await self._compared(form)

    async def _after_unknown(self, id_tag: str, form: TagForm, error: UpstreamError) -> Tag:
        """No answer came: what stands there now tells whether it was done."""
        try:
            found = await self._steve.find_tag(id_tag, urgent=True)
        except UpstreamError:
            raise OutcomeUnknown(id_tag, error) from error
        if found is None or differing(form, found):
            raise OutcomeUnknown(id_tag, error) from error
        return found

    async def _compared(self, form: TagForm) -> Tag:
        try:
            found = await self._steve.find_tag(form.id_tag, urgent=True)
        except UpstreamError as error:
            # It was written; only whether it stands as written is not known.
            raise OutcomeUnknown(form.id_tag, error) from error
        if found is None:
            raise CardGone(form.id_tag)
        other = differing(form, found)
        if other:
            raise WriteConflict(form.id_tag, other)
        return found


def differing(form: TagForm, tag: Tag) -> list[str]:
    """The fields in which a tag is not what was written. SteVe trims an empty note away, and keeps milliseconds."""
    there = TagForm.of(tag)
    pairs = {
        "parent": ((form.parent_id_tag or "").upper(), (there.parent_id_tag or "").upper()),
        "expiry": (_milliseconds(form.expiry_date), _milliseconds(there.expiry_date)),
        "limit": (form.max_active_transaction_count, there.max_active_transaction_count),
        "note": (form.note or "", there.note or ""),
    }
    return [name for name, (written, read) in pairs.items() if written != read]


def _milliseconds(moment: datetime | None) -> datetime | None:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000) if moment is not None else None
