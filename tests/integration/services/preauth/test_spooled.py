"""What follows a tap while it still waits in the spool."""

from uuid import uuid4

from services.preauth.decision.desk import GatewayDesk
from services.preauth.decision.projections import session_started
from services.preauth.gateway.ports import Presented
from shared.contracts.identity import IdTag
from shared.contracts.requests.preauth import SearchTaps
from tests.integration.services.preauth.test_evidence import CP, session_at
from tests.integration.services.preauth.world import Preauth


async def test_what_follows_a_spooled_tap_is_put_beside_it(preauth: Preauth) -> None:
    """SteVe's answer and the session are known before the tap is in the journal: there it has both."""
    taps = preauth.taps
    desk = GatewayDesk(taps.decider, preauth.service.database, lambda: len(taps.spool) > 0)
    tap = Presented(
        tap_id=uuid4(),
        charge_box_id=CP,
        id_tag="04A1",
        kind="authorize",
        connector_id=None,
        at=preauth.clock(),
        remote_start=False,
    )
    taps.group._connected = False
    assert not await desk.decide(tap)
    desk.told(tap, "passed", in_time=True)
    desk.answered(tap, "Accepted")
    await desk.write_answers()
    # The gateway sees it first, which does not know its whole name.
    at = preauth.clock()
    async with preauth.service.database.write() as tx:
        await session_started(
            tx,
            charge_box_id=CP,
            transaction_id=1,
            connector_id=1,
            id_tag=IdTag("04A1"),
            started_at=at,
            seen_at=at,
        )
    await session_at(preauth, 1, "04A1", at)
    assert preauth.rows("SELECT FROM tap") == []
    taps.group._connected = True
    await preauth.until("SELECT FROM tap")
    await desk.write_answers()
    [row] = (await preauth.done(SearchTaps()))["taps"]
    assert (row["reason"], row["steve_answer"]) == ("database_away", "Accepted")
    assert (row["session"], row["session_outcome"]) == ("steve:1", "began")
    assert not desk._answers
