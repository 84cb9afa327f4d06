"""Plays a history on a real sync, its database and the simulators, and tells the model what happened."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final

from hypothesis import note

from deploy.demo.steve.model import MeterValue, Stop, StopActor
from services.sync.cards.problems import AlreadySo
from services.sync.main import Rooms
from services.sync.upstreams.errors import UpstreamError
from shared.contracts.problem import Problem
from shared.contracts.requests.sync import LinkCard
from shared.contracts.requests.sync_cards import ChangeParent, RelinkCard, UnlinkCard
from shared.contracts.requests.sync_work import IgnoreHeld, ReleaseHeld
from tests.integration.services.sync.conftest import ADA, World, effect
from tests.integration.services.sync.invariant import books
from tests.integration.services.sync.invariant.history import SUBSCRIPTIONS, Action
from tests.integration.services.sync.invariant.in_lago import InLago
from tests.integration.services.sync.invariant.model import PASSABLE, UNOWNED, Policy, Session

START_WH: Final = 1_000
# Of a charger with such a name, and of no other, an event is larger than that.
LONG, LONG_BYTES = "C" * 200, 200
# Sync gives an event up that Lago failed on so often while it took others, each time with a pause of minutes; or, where
# none went, after so long.
TRIES: Final = [*[timedelta(minutes=6)] * 9, timedelta(hours=6), *[timedelta(minutes=6)] * 9]
# An entry that Lago never had, made before its time was over, may be waiting for these.
TOO_LATE: Final = UNOWNED - {"card_unlinked", "card_unknown"} | {"late"}


class Play(InLago):
    async def step(self, name: str, *given: Any) -> None:  # noqa: ANN401 - each action has its own
        self.world.clock.advance(seconds=1)
        await getattr(self, f"do_{name}")(*given)

    # What chargers do

    async def do_charge(self, card: str, energy_wh: int, kind: str) -> None:
        actor = StopActor.MANUAL if kind == "manual" else StopActor.STATION
        self._add(card, START_WH, None if kind == "open" else START_WH + energy_wh, actor=actor)

    async def do_late(self, card: str, energy_wh: int, hours: int) -> None:
        """A station that was offline uploads what it has: ids in order of arrival, times of long ago."""
        self._add(card, START_WH, START_WH + energy_wh, ago=timedelta(hours=hours))

    async def do_wrong(self, card: str, anomaly: str) -> None:
        """Something impossible, stopped by hand: the station's own stop may put it right."""
        by_hand = StopActor.MANUAL
        match anomaly:
            case "no_energy":
                self._add(card, START_WH, START_WH, actor=by_hand)
            case "negative_energy":
                self._add(card, START_WH, START_WH - 500, actor=by_hand)
            case "too_much_energy":
                self._add(card, START_WH, START_WH + 900_000, actor=by_hand)
            case "meter_unreadable":
                self._add(card, START_WH, "full", actor=by_hand)
            case "stop_before_start":
                self._add(card, START_WH, START_WH + 400, lasts=timedelta(minutes=-9), actor=by_hand)
            case "meter_went_back":
                before = self._add(card, START_WH, 9_000)
                again = self._add(card, 500, 3_500, box=before.one.charge_box_id, actor=by_hand)
                again.before_wh = 9_000
            case "card_unknown":
                self._add(f"GHOST-{len(self.model.sessions)}", START_WH, START_WH + 700)

    async def do_poison(self, card: str, energy_wh: int, replica: int) -> None:
        """Lago fails on the event of this session, and on each batch that it is in, until that is repaired; those of
        others go meanwhile.
        """
        async with self.well():
            one = self._add(card, START_WH, START_WH + energy_wh, box=f"{LONG}{len(self.model.sessions)}").one
            state = self.world.lago.state
            bears, state.max_properties_bytes = state.max_properties_bytes, LONG_BYTES
            for pause in TRIES:
                self.world.clock.advance(seconds=pause.total_seconds())
                await self.turn(replica)
                found = await self.world.rows("SELECT billing FROM sync.session WHERE transaction_pk = :pk", pk=one.pk)
                if [row.billing for row in found] == ["held"]:
                    break
            state.max_properties_bytes = bears
            rows = {row.transaction_pk: row for row in await self.world.rows("SELECT * FROM sync.session")}
            mine = rows[one.pk]
            assert mine.billing == "held", mine
            assert mine.last_seq == 0 or mine.hold_reason == "lago_fails_on_it", mine
            failed = [row for row in rows.values() if row.hold_reason == "lago_fails_on_it"]
            assert all(row.charge_box_id.startswith(LONG) for row in failed), failed

    def _add(
        self,
        card: str,
        start_wh: int,
        stop_wh: int | str | None,
        *,
        ago: timedelta = timedelta(),
        lasts: timedelta = timedelta(minutes=30),
        actor: StopActor = StopActor.STATION,
        box: str | None = None,
    ) -> Session:
        """Each on a charger of its own, unless it is given: what overlaps is not what this is about."""
        at = (self.world.clock() - ago).replace(microsecond=0)
        one = self.world.steve.state.add_transaction(
            charge_box_id=box or f"CP-{len(self.model.sessions)}",
            id_tag=card.lower(),
            start_at=at,
            start_wh=start_wh,
            stop_at=None if stop_wh is None else at + lasts,
            stop_wh=stop_wh,
            stop_actor=actor,
        )
        session = self.model.sessions[one.pk] = Session(one, card)
        self.world.clock.advance(minutes=31)
        return session

    async def do_stop(self, number: int, energy_wh: int) -> None:
        still_open = [one for one in self.model.sessions.values() if one.one.active]
        if still_open:
            await self._stop(still_open[number % len(still_open)], energy_wh)

    async def do_restop(self, number: int, energy_wh: int) -> None:
        """The station's own stop, after somebody had stopped it by hand."""
        by_hand = [
            one
            for one in self.model.sessions.values()
            if one.one.stop
            and one.one.stop.actor is StopActor.MANUAL
            and not one.deleted
            and not self.model.verdict(one).reasons & TOO_LATE
        ]
        if by_hand:
            await self._stop(by_hand[number % len(by_hand)], energy_wh)

    async def _stop(self, session: Session, energy_wh: int) -> None:
        if session.closed or session.accepted - {"late"}:
            # How much less it may become depends on how much was billed since, and so does what is billed of one that
            # is held again for what was let pass.
            await self.calm()
            session.had_wh = books.of_session(self.world, session.one.pk)
        session.accepted &= {"late"}
        one = session.one
        at = max(self.world.clock(), one.start_at + timedelta(minutes=30)).replace(microsecond=0)
        value = str(int(one.start_value) + energy_wh)
        self.world.steve.state.add_stop(one.pk, Stop(at=at, value=value, reason="Local", actor=StopActor.STATION))

    async def do_step(self, number: int, energy_wh: int, replica: int) -> None:
        """A running session's meter is read, and billed as far as that; the stop may say less."""
        still_open = [one.one for one in self.model.sessions.values() if one.one.active]
        if still_open:
            one = still_open[number % len(still_open)]
            at = max(self.world.clock(), one.start_at + timedelta(minutes=30)).replace(microsecond=0)
            value = str(START_WH + energy_wh)
            reading = MeterValue(at=at, value=value, measurand="Energy.Active.Import.Register", unit="Wh")
            self.world.steve.state.add_meter_values(one.pk, [reading])
            with suppress(UpstreamError):
                await self.replicas[replica].progress.bill_running()

    # What happens to sync

    async def do_turn(self, replica: int) -> None:
        await self.turn(replica)

    async def do_lago(self, fault: str, count: int, path: str) -> None:
        self.world.lago.faults.add(fault, path=f"/api/v1{path}", count=count)

    async def do_steve(self, fault: str, times: int) -> None:
        self.world.steve.faults.set(fault, times=times)  # type: ignore[arg-type]

    async def do_both(self) -> None:
        await asyncio.gather(self.do_turn(0), self.do_turn(1))

    async def do_count(self, replica: int) -> None:
        with suppress(UpstreamError):
            await self.replicas[replica].counting.count()

    async def do_die(self, replica: int, milliseconds: int) -> None:
        """A replica dies in the middle of a turn: nothing after that moment is done, and nothing is tidied up."""
        turn = asyncio.create_task(self.do_turn(replica))
        await asyncio.sleep(milliseconds / 1000)
        turn.cancel()
        await asyncio.gather(turn, return_exceptions=True)

    async def do_later(self, minutes: int) -> None:
        self.world.clock.advance(minutes=minutes)

    # What operators do

    async def do_link(self, card: str, subscription: str, back_h: int, release_h: int | None) -> None:
        """Link it, or to another one; dated back, and with `release_h` what is held since then is released."""
        if release_h is None:
            await self._link(card, subscription, back_h, None)
            return
        await self.calm()
        async with self.well():
            await self._link(card, subscription, back_h, self.world.clock() - timedelta(hours=release_h))

    async def _link(self, card: str, subscription: str, back_h: int, release_from: datetime | None) -> None:
        self.model.seen(await self.seen())
        at = self.world.clock() - timedelta(hours=back_h)
        target = {"external_customer_id": SUBSCRIPTIONS[subscription], "external_subscription_id": subscription}
        given: dict[str, Any] = {"id_tag": card, "valid_from": at, "release_from": release_from, **target}
        linking = self.world.rooms.linking
        told = len(await self.world.events("transaction.released"))
        try:
            async with self.world.service.database.write() as tx:
                if any(one.until is None for one in self.model.links.get(card, ())):
                    await linking.relink_card(tx, RelinkCard(**given), ADA)
                else:
                    await linking.link_card(tx, LinkCard(**given), ADA)
        except Problem as refused:
            # Lago is silent or has it no longer, or there is a later link: nothing has changed.
            note(f"link refused: {refused}")
            return
        self.model.link(card, subscription, at)
        if release_from is not None:
            released = {one.data["session"] for one in (await self.world.events("transaction.released"))[told:]}
            self._released(card, release_from, released)

    def _released(self, card: str, since: datetime, released: set[str]) -> None:
        family = self.model.family(card, self.world.clock())
        for pk, session in self.model.sessions.items():
            if session.card not in family or session.one.start_at < since or session.one.active:
                assert f"main:{pk}" not in released, f"{pk} was released, and is none of those that were confirmed"
                continue
            reasons = self.model.verdict(session).reasons & UNOWNED
            # One that ever had an owner stays theirs, whatever it is held for.
            wanted = bool(reasons) and session.owner is None
            assert wanted == (f"main:{pk}" in released), (
                f"{pk} was released, and has an owner, or was not, and has none"
            )
            if wanted:
                self.model.release(pk, reasons, self.world.clock())

    async def do_unlink(self, card: str, ahead_h: int = 0) -> None:
        self.model.seen(await self.seen())
        at = self.world.clock() + timedelta(hours=ahead_h)
        with suppress(Problem):
            async with self.world.service.database.write() as tx:
                await self.world.rooms.links.unlink_card(tx, UnlinkCard(id_tag=card, valid_to=at), ADA)
            self.model.link(card, None, at)

    async def do_parent(self, card: str, parent: str | None) -> None:
        async with self.well():
            self.model.seen(await self.seen())
            self.model.put_below(card, parent, self.world.clock())
            request = ChangeParent(id_tag=card, parent_id_tag=parent)
            with suppress(AlreadySo):
                async with self.world.service.database.write() as tx:
                    await self.world.rooms.cards.change_parent(tx, request, ADA, effect(self.world))

    async def do_reissue(self, card: str, same_parent: bool) -> None:  # noqa: FBT001 - a history's word
        """Its tag is deleted in SteVe, with its transactions, and another one is made under the same number, once sync
        has read what it charged. SteVe deletes no tag that is a parent; and it is another SteVe whose newest
        transaction is gone, so somebody else's is newer.
        """
        await self.do_charge("CARD-A", 100, "ended")
        await self.calm()
        state, mine = self.world.steve.state, [one for one in self.model.sessions.values() if one.card == card]
        tag = state.tag(card)
        assert tag is not None
        parents = {one.parent_id_tag for one in state.tags.values()}
        if card in parents or any(one.one.active for one in mine):
            return
        state.remove_tag(tag.pk)
        for one in mine:
            one.deleted = True
        parent = tag.parent_id_tag if same_parent else None
        state.add_tag(card, parent_id_tag=parent)
        self.model.reissue(card, parent, self.world.clock())

    async def do_release(self, number: int) -> None:
        await self.calm()
        held = await self.undecided()
        if not held:
            return
        pk, one = sorted(held.items())[number % len(held)]
        request = ReleaseHeld(sessions=[f"main:{pk}"], change_owner=number % 2 == 1)
        before = SUBSCRIPTIONS.get(self.model.sessions[pk].owner or "")
        async with self.well(), self.world.service.database.write() as tx:
            changed = await self.world.rooms.held.release_held(tx, request, ADA)
        if changed.sessions:
            assert one.reason in PASSABLE | UNOWNED | {"open_too_long"}, f"{pk} was released from {one.reason}"
            self.model.release(pk, [one.reason], self.world.clock())
            after = SUBSCRIPTIONS.get(self.model.sessions[pk].owner or "")
            told = [(each.previous_external_customer_id, each.external_customer_id) for each in changed.owners_changed]
            assert told == ([] if before in {None, after} else [(before, after)]), told
            assert request.change_owner or not told, f"{pk} was released to {after}, and is {before}'s"
        else:
            assert one.reason not in PASSABLE - {"late"}, changed.refused

    async def do_ignore(self, number: int) -> None:
        await self.calm()
        held = await self.held()
        if held:
            pk = sorted(held)[number % len(held)]
            async with self.well(), self.world.service.database.write() as tx:
                await self.world.rooms.held.ignore_held(tx, IgnoreHeld(sessions=[f"main:{pk}"], note="by hand"), ADA)
            self.model.ignore(pk, books.of_session(self.world, pk))

    async def do_retry(self, how: str, number: int) -> None:
        """Of what is held; it lets nothing pass."""
        held = sorted((await self.undecided()).items())
        if not held:
            return
        pk, one = held[number % len(held)]
        given: dict[str, dict[str, Any]] = {
            "one": {"sessions": [f"main:{pk}"]},
            "class": {"reason": one.reason},
            "all": {"everything": True},
        }
        await self.retry(**given[how])

    async def settle(self) -> None:
        """The faults are over, what is open ends, and time passes: all is found, and retried where it is held."""
        self.world.lago.faults.clear()
        self.world.steve.faults.clear()
        for session in list(self.model.sessions.values()):
            if session.foreign is not None:
                self._clear(session)
            if session.one.active:
                await self._stop(session, 500)
        async with self.well():
            for replica in (0, 1):
                self.world.clock.advance(minutes=6)
                await self.do_turn(replica)
            await self.bring_home()
            self.model.seen(await self.seen())
            self.agree(await self.held())
            for name, one in self.model.subscriptions.items():
                if one.gone:
                    # What it had is counted when it is there.
                    self._return(name)
            self.world.clock.advance(hours=2)
            await self.replicas[0].counting.count()


async def play(
    world: World, replicas: Sequence[Rooms], policy: Policy, began: datetime, steps: Sequence[Action]
) -> Play:
    """A history from beginning to end, and until nothing is left to be done."""
    played = Play(world, replicas, policy, began)
    await played.begin()
    for step in steps:
        await played.step(*step)
    await played.settle()
    return played
