"""The story, from beginning to end, each step checked by what others can see of it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from deploy.demo.story.cast import ADA, BEN, CHARGERS, EVE, LINKED, STRANGER, Card
from deploy.demo.story.stage import Json, Stage, StageError, card_path, eventually
from deploy.demo.story.watch import Watch

Tell = Callable[[str], None]

SESSION_S: Final = 4.0
SYNCED_WITHIN_S: Final = 30.0
INTERCEPT_ATTEMPTS: Final = 3
AUDIT_SHOWN: Final = 5
SCAN_ENDS_WITHIN_S: Final = 15.0


@dataclass(slots=True)
class Check:
    """Something that must have happened, whether it did, and what was found."""

    what: str
    passed: bool
    found: str = ""

    @property
    def sentence(self) -> str:
        return self.what if self.passed or not self.found else f"{self.what}: {self.found}"


@dataclass(slots=True)
class Story:
    stage: Stage
    watch: Watch
    tell: Tell
    checks: list[Check] = field(default_factory=list)
    # What Lago has to count at the end, by subscription.
    billed_wh: dict[str, int] = field(default_factory=dict)

    def check(self, what: str, passed: object, found: object = "") -> None:
        self.checks.append(Check(what, bool(passed), str(found)))

    async def play(self) -> list[Check]:
        """Play everything; a step that cannot be played is a failed check, and the story goes on."""
        for step in (
            self.connect,
            # Before anybody charges: a session that sync sees before its card has a link is nobody's, and held.
            self.link,
            self.intercept,
            self.charge,
            self.refuse,
            self.remember,
            self.count_again,
        ):
            try:
                await step()
            except Exception as error:  # noqa: BLE001 - whatever it was, it is what the check found
                self.check(f"step {step.__name__!r} could be played", passed=False, found=repr(error))
        return self.checks

    async def connect(self) -> None:
        """The fleet is connected to SteVe."""

        async def all_connected() -> bool:
            return await self.stage.connected_chargers() >= set(CHARGERS)

        self.check("all chargers are connected", await eventually(all_connected))
        if left_over := await self.stage.close_left_over():
            self.tell(f"{left_over} sessions of a demo that was cut off were stopped by hand in SteVe.")

    async def intercept(self) -> None:
        """At the kiosk a driver chooses CP-2; Ben's tap there becomes his login instead of a session."""
        charger = CHARGERS[1]
        await self.stage.set_up_kiosk(charger)
        # Who is not known yet could not log in.
        self.check(f"{BEN.holder}'s card was found in SteVe", await eventually(lambda: self._known(BEN)))
        armed: Json = {}
        told: Json = {}
        for attempt in range(1, INTERCEPT_ATTEMPTS + 1):
            armed = await self._arm(charger, armed)
            self.tell(
                f"At the kiosk a driver chooses {charger}: the next card tapped there logs in instead of charging."
            )
            told = await self.stage.tap(charger, 1, BEN.id_tag)
            if told["authorize"] == "Blocked":
                break
            # A machine too busy to answer within the charger's patience lets the card charge: it must. The driver
            # sees that no login came, and taps again.
            self.tell(f"{BEN.holder}'s tap was answered too late to be intercepted, so it charges (attempt {attempt}).")
            await self.stage.stop(charger, 1)
        self.tell(f"{BEN.holder} taps at {charger}: SteVe says {told['authorize']}, by design.")
        self.check("the armed charger was told Blocked, and does not charge", turned_away(told, "Blocked"), told)
        scan = await self.watch.seen("scan.intercepted", pairing_id=armed["pairing_id"])
        self.check("scan.intercepted was told", scan is not None, armed)
        await self.log_in(armed["pairing_id"])
        elsewhere = await self.stage.tap(CHARGERS[2], 2, BEN.id_tag)
        self.tell(f"{BEN.holder} taps at {CHARGERS[2]}, where nothing is armed: {elsewhere['authorize']}, charging.")
        self.check("the same card charges at another charger", elsewhere["charging"], elsewhere)

    async def log_in(self, pairing_id: str) -> None:
        """The kiosk's page completes the login, and Ben sees his account; then he signs out."""
        page = await self.stage.log_in(pairing_id)
        self.tell(f"The kiosk's page is {BEN.holder}'s account now.")
        self.check("the kiosk's browser arrives at the driver's page", page.is_success, page.status_code)
        told = await self.watch.seen("scan.login_succeeded", pairing_id=pairing_id)
        whose = told and told["data"]["id_tag"]
        self.check("the login is the tapped card's", whose == BEN.id_tag, whose)
        await self.stage.log_out()

    async def _arm(self, charger: str, before: Json) -> Json:
        """A new scan, or the one `before` where that still waits: a tap that never came to a decision ended none."""

        async def try_to() -> Json:
            try:
                return await self.stage.arm(charger)
            except StageError as error:
                # The scan before this one is only just ending.
                if error.status == 409:
                    return {}
                raise

        return await eventually(try_to, within_s=SCAN_ENDS_WITHIN_S) or before or await self.stage.arm(charger)

    async def link(self) -> None:
        """The operator links the cards to their customers' subscriptions."""
        since = (datetime.now(UTC) - timedelta(days=1)).isoformat()
        for card in LINKED:
            known = await eventually(lambda card=card: self._known(card))  # type: ignore[misc]
            if not known:
                self.check(f"{card.holder}'s card was found in SteVe", passed=False)
            elif known["link"] is None:
                await self.stage.change(
                    f"{card_path(card.id_tag)}/link",
                    {
                        "external_customer_id": card.customer,
                        "external_subscription_id": card.subscription,
                        "valid_from": since,
                    },
                )
        self.tell(f"{len(LINKED)} cards are linked to customers and subscriptions in Lago.")

    async def _known(self, card: Card) -> Json | None:
        found = await self.stage.ask("/cards", q=card.id_tag)
        return next((item for item in found["items"] if item["id_tag"] == card.id_tag), None)

    async def charge(self) -> None:
        """Ada charges too; SteVe's kWh arrive in Lago, once each."""
        told = await self.stage.tap(CHARGERS[0], 1, ADA.id_tag)
        self.tell(f"{ADA.holder} taps at {CHARGERS[0]}: {told['authorize']}, charging.")
        self.check("a linked card charges", told["charging"], told)
        await asyncio.sleep(SESSION_S)
        for card, charger, connector in ((BEN, CHARGERS[2], 2), (ADA, CHARGERS[0], 1)):
            await self.bill(card, charger, connector)

    async def bill(self, card: Card, charger: str, connector: int) -> None:
        """End a session; what SteVe recorded is what Lago counts more than before."""
        subscription = str(card.subscription)
        before_wh = await self.stage.counted_wh(subscription)
        session = await self.stage.stop(charger, connector)
        self.tell(f"{card.holder}'s session ends with {session['energy_wh'] / 1000:.1f} kWh.")

        async def synced() -> bool:
            return any(
                event["type"] == "transaction.synced"
                and event["data"]["session"].endswith(f":{session['transaction_id']}")
                for event in self.watch.events
            )

        self.billed_wh[subscription] = before_wh + int(session["energy_wh"])

        async def arrived() -> bool:
            return await self.stage.counted_wh(subscription) == self.billed_wh[subscription]

        was_synced = await eventually(synced, within_s=SYNCED_WITHIN_S)
        self.check(f"{card.holder}'s session was synced to Lago", was_synced, session)
        self.check(
            f"Lago counts what SteVe recorded of {card.holder}'s session",
            await eventually(arrived),
            f"{before_wh} + {session['energy_wh']} Wh = {await self.stage.counted_wh(subscription)} Wh",
        )

    async def refuse(self) -> None:
        """A blocked and an unknown card are refused, and the diagnosis says why."""
        told = await self.stage.tap(CHARGERS[3], 1, EVE.id_tag)
        self.tell(f"{EVE.holder} taps at {CHARGERS[3]}: {told['authorize']}.")
        self.check("a card that SteVe blocks is refused", turned_away(told, "Blocked"), told)
        stranger = await self.stage.tap(CHARGERS[3], 2, STRANGER)
        self.check("an unknown card is refused", turned_away(stranger, "Invalid"), stranger)
        verdict, answers = await self._diagnose(EVE)
        self.check("the diagnosis finds the block in SteVe", answers["valid_in_steve"] == "no", answers)
        self.check("the verdict on the blocked card is that it is blocked", verdict["code"] == "blocked", verdict)
        verdict, answers = await self._diagnose(ADA)
        healthy = {"valid_in_steve": "yes", "linked": "yes", "intercepted": "no", "charger": "yes"}
        self.check("the runbook's four questions are answered for a card that charged", answers == healthy, answers)
        self.check("the verdict on a card that charged is fine", verdict["code"] == "fine", verdict)

    async def _diagnose(self, card: Card) -> tuple[Json, Json]:
        """The verdict, and the answers by question."""
        diagnosis = await self.stage.change("/diagnoses", {"card": card.id_tag})
        verdict: Json = diagnosis["verdict"]
        self.tell(f"What of {card.holder}'s card? {verdict['sentence']}")
        return verdict, {check["id"]: check["answer"] for check in diagnosis["checks"]}

    async def remember(self) -> None:
        """Audit has every event that was told."""
        missing = []
        for event in list(self.watch.events):
            path = f"/audit/entries/{event['id']}"

            async def recorded(path: str = path) -> bool:
                try:
                    await self.stage.ask(path)
                except StageError as error:
                    if error.status == 404:
                        return False
                    raise
                return True

            if not await eventually(recorded, within_s=10):
                missing.append(event["type"])
        told = len(self.watch.events)
        self.tell(f"Audit has recorded {told - len(missing)} of {told} events. The newest:")
        for entry in (await self.stage.ask("/audit/entries", limit=AUDIT_SHOWN))["items"]:
            who = f"{entry['actor_kind']} {entry['actor_id']}"
            self.tell(f"  #{entry['position']}  {entry['type']:<21} {entry['subject']}, by {who}")
        self.check("audit recorded every event", told > 0 and not missing, f"{told} told, missing {missing}")

    async def count_again(self) -> None:
        """What came to Lago after its count was right would be there by now."""
        for subscription, wh in self.billed_wh.items():
            found = await self.stage.counted_wh(subscription)
            self.check(f"Lago counts {subscription}'s session once", found == wh, f"{found} Wh instead of {wh} Wh")


def turned_away(told: Json, status: str) -> bool:
    """Whether the charger was told so and heeded it: one that charges all the same is what the story is to find."""
    return told["authorize"] == status and not told["charging"]
