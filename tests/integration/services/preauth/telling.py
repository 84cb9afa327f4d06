"""Taps that are decided and told by hand, without hook or gateway."""

import time
from typing import Any

from services.preauth.decision.decider import TapDecider
from services.preauth.decision.tap import Tap
from shared.contracts.requests.preauth import ArmPairing
from tests.integration.services.preauth.world import Preauth

CP = "CP-7"
# Deadlines nearly as in production.
HASTY: dict[str, Any] = {"decide_within_ms": 50, "answer_within_ms": 120}


async def arm(preauth: Preauth, charger: str = CP) -> None:
    await preauth.done(ArmPairing(charge_box_id=charger, purpose="find_card"))


def decider_of(preauth: Preauth) -> TapDecider:
    """The port that hook and gateway use."""
    return preauth.taps.decider


def a_tap(id_tag: str = "04A1", charger: str = CP) -> Tap:
    return Tap(id_tag, charger, "authorize", "gateway", time.monotonic())
