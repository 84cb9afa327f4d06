"""Acting on webhooks: what is believed is refreshed, by one replica, whatever dies or does not answer meanwhile."""

import asyncio
import json
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import pytest

from deploy.demo.lago import lifecycle
from deploy.demo.lago.model import Charge
from services.sync.webhooks import dispatch, rules, store
from services.sync.webhooks.handlers import WebhookQueries, WebhookReplay
from shared.contracts.problem import Invalid
from shared.contracts.requests.sync import GetUpstreams, ReplayWebhooks, WebhookStanding
from tests.integration.services.sync.conftest import ADA, World, a_replica, ago


async def receive(world: World, webhook_type: str, object_type: str, content: Any, key: str = "key-1") -> None:  # noqa: ANN401
    """Put a webhook where the endpoint puts it."""
    body = {"webhook_type": webhook_type, "object_type": object_type, object_type: content}
    async with world.service.database.write() as tx:
        await store.keep(
            tx,
            {
                "unique_key": key,
                "webhook_type": webhook_type,
                "object_type": object_type,
                "object_id": None,
                "body": json.dumps(body).encode(),
                "algorithm": "hmac",
                "received_at": world.clock(),
                "state": "waiting",
                "next_attempt_at": world.clock(),
            },
        )


async def told(world: World, subscription: str = "sub_ada", key: str = "key-1") -> None:
    await receive(world, "subscription.updated", "subscription", {"external_id": subscription}, key)


async def webhook(world: World, key: str = "key-1") -> Any:  # noqa: ANN401
    return (await world.rows("SELECT * FROM sync.webhook WHERE unique_key = :key", key=key))[0]


async def believed(world: World, subscription: str = "sub_ada") -> Any:  # noqa: ANN401
    found = await world.rows("SELECT * FROM sync.subscription WHERE external_subscription_id = :id", id=subscription)
    return found[0]


async def billed(world: World) -> None:
    """A session of Ada's, so that her subscription is known here."""
    await world.link("A")
    world.charge("A", 2_000)
    await world.turn()


async def test_an_ended_subscription_is_followed_at_once(world: World) -> None:
    """It is believed for a minute; after its webhook the next session is decided by what Lago says now."""
    await billed(world)
    assert (await believed(world)).active
    lifecycle.terminate(world.lago.state, "sub_ada")
    await told(world)
    assert await world.rooms.dispatch.dispatch() == 1
    assert (await believed(world)).active is False
    assert (await believed(world)).ended_at is not None
    assert ((await webhook(world)).state, (await webhook(world)).attempts) == ("done", 1)
    late = world.charge("A", 3_000).pk
    await world.turn()
    assert (await world.session(late)).billing == "held"
    assert world.counted() == (2_000, 1)


async def test_what_is_held_is_decided_again_when_its_subscription_changes(world: World) -> None:
    """A session that waits for a repair in Lago does not wait for the next look, five minutes away."""
    await world.link("A", "cus_bob", "sub_free")
    pk = world.charge("A", 2_000).pk
    await world.turn()
    assert (await world.session(pk)).hold_reason == "plan_without_charge"
    charge = Charge(metric_code="ev_charging_kwh", created_us=0, amount="0.40")
    world.lago.state.plans["free"].charges.append(charge)
    world.lago.state.catalog_version += 1
    await world.turn()
    assert (await world.session(pk)).billing == "held"
    await told(world, "sub_free")
    await world.rooms.dispatch.dispatch()
    await world.turn()
    assert (await world.session(pk)).billing == "synced"
    assert world.counted("sub_free") == (2_000, 1)


async def test_a_changed_customers_subscriptions_are_not_believed_any_more(world: World) -> None:
    """They are asked for before they are used again; other customers' ones stay believed."""
    await billed(world)
    await world.link("B", "cus_bob", "sub_bob")
    world.charge("B", 1_000, charge_box_id="CP-2")
    await world.turn()
    await receive(world, "customer.updated", "customer", {"external_id": "cus_ada"})
    await world.rooms.dispatch.dispatch()
    assert (await believed(world)).checked_at < ago(days=300)
    assert (await believed(world, "sub_bob")).checked_at > ago(days=1)


async def test_a_subscription_that_nobody_charges_on_costs_no_request(world: World) -> None:
    """Most subscriptions of a Lago may have nothing to do with charging: their webhooks are kept, and no more."""
    asked = world.lago.requests.total
    await told(world, "sub_somebodys")
    await world.rooms.dispatch.dispatch()
    assert (await webhook(world)).state == "done"
    assert world.lago.requests.total == asked


async def test_an_unknown_type_is_kept_and_ignored(world: World) -> None:
    """What a later Lago tells is there to be read, and nothing is done about it."""
    await receive(world, "feature.created", "feature", {"code": "x"})
    await world.rooms.dispatch.dispatch()
    row = await webhook(world)
    assert (row.state, row.last_error) == ("ignored", None)
    assert json.loads(bytes(row.body))["feature"] == {"code": "x"}


async def test_a_known_type_of_another_form_is_given_up_at_once(world: World) -> None:
    """No later attempt would read it: it is shown as failed, with why, and does not stop the others."""
    queries = WebhookQueries(world.service.database, world.rooms.health.get_upstreams)
    before = (await queries.get_upstreams(GetUpstreams(), ADA)).webhooks
    assert before == WebhookStanding(received_at=None, waiting=0, failed=0)
    await receive(world, "subscription.updated", "subscription", {"external_id": 7}, "bad")
    await told(world)
    await world.rooms.dispatch.dispatch()
    shown = (await queries.get_upstreams(GetUpstreams(), ADA)).webhooks
    assert shown is not None
    assert (shown.waiting, shown.failed) == (0, 1)
    assert [(one.unique_key, one.why) for one in shown.newest_failed] == [
        ("bad", "subscription.updated has no external_id.")
    ]
    assert ((await webhook(world, "bad")).state, (await webhook(world)).state) == ("failed", "done")
    assert "has no external_id" in (await webhook(world, "bad")).last_error


async def test_a_silent_lago_is_asked_again_later(world: World) -> None:
    """Nothing is believed meanwhile, nothing is lost, and the pauses grow."""
    await billed(world)
    lifecycle.terminate(world.lago.state, "sub_ada")
    await told(world)
    world.lago.faults.add("http_503")
    await world.rooms.dispatch.dispatch()
    row = await webhook(world)
    assert (row.state, row.attempts) == ("waiting", 1)
    assert "did not answer about sub_ada" in row.last_error
    assert row.next_attempt_at > world.clock()
    assert (await believed(world)).checked_at < ago(days=300)
    assert await world.rooms.dispatch.dispatch() == 0
    world.lago.faults.clear()
    world.clock.advance(seconds=5)
    world.rooms.lago._caller._breaker.succeeded()
    assert await world.rooms.dispatch.dispatch() == 1
    assert ((await webhook(world)).state, (await webhook(world)).attempts) == ("done", 2)
    assert (await believed(world)).active is False


async def test_after_hours_it_is_given_up_seen_and_can_be_replayed(world: World) -> None:
    """As many attempts as there may be, then failed: kept, measured, and acted on when somebody replays it."""
    await billed(world)
    await told(world)
    world.lago.faults.add("http_503")
    for _ in range(rules.MOST_ATTEMPTS):
        assert await world.rooms.dispatch.dispatch() == 1
        world.clock.advance(minutes=16)
    assert ((await webhook(world)).state, (await webhook(world)).attempts) == ("failed", rules.MOST_ATTEMPTS)
    assert await world.rooms.dispatch.dispatch() == 0
    await world.rooms.dispatch.measure()
    assert world.service.registry.get_sample_value("webhooks_failed") == 1
    world.lago.faults.clear()
    world.rooms.lago._caller._breaker.succeeded()
    assert await replayed(world, failed=True) == (1, [], True)
    assert await world.rooms.dispatch.dispatch() == 1
    assert (await webhook(world)).state == "done"
    assert await replayed(world, failed=True) == (0, [], False)
    assert await replayed(world, unique_keys=["key-1", "no such key"]) == (1, ["no such key"], True)
    assert (await webhook(world)).state == "waiting"
    with pytest.raises(Invalid):
        await replayed(world)


async def replayed(world: World, **given: Any) -> tuple[int, list[str], bool]:  # noqa: ANN401
    """How many an operator had replayed, which were unknown, and whether the dispatching was woken."""
    woken: list[bool] = []
    replay = WebhookReplay(clock=world.clock, dispatch=lambda: woken.append(True))
    async with world.service.database.write() as tx:
        answer = await replay.replay_webhooks(tx, ReplayWebhooks(**given), ADA)
    return answer.replayed, answer.unknown, woken == [True]


async def test_a_failed_one_that_lago_sends_again_waits_again(world: World) -> None:
    """An operator's redelivery from Lago's console is a replay; that of one that is done changes nothing."""
    await receive(world, "subscription.updated", "subscription", {"external_id": 7})
    await world.rooms.dispatch.dispatch()
    await receive(world, "subscription.updated", "subscription", {"external_id": 7})
    assert ((await webhook(world)).state, (await webhook(world)).attempts) == ("waiting", 0)
    await told(world, key="fine")
    await world.rooms.dispatch.dispatch()
    await told(world, key="fine")
    assert (await webhook(world, "fine")).state == "done"


async def test_a_replica_that_dies_holding_webhooks_loses_none(world: World) -> None:
    """What it had taken is left alone until its lease ends, and then acted on by another one."""
    await billed(world)
    await told(world)
    async with world.service.database.write() as tx:
        assert len(await store.claim(tx, world.clock(), limit=10, lease=dispatch.LEASE)) == 1
    assert await world.rooms.dispatch.dispatch() == 0
    world.clock.advance(seconds=dispatch.LEASE.total_seconds() + 1)
    assert await world.rooms.dispatch.dispatch() == 1
    assert ((await webhook(world)).state, (await webhook(world)).attempts) == ("done", 2)


async def test_one_that_comes_back_from_the_dead_says_nothing(world: World) -> None:
    """A replica whose lease ran out does not undo what the one that took over has said."""
    await told(world)
    async with world.service.database.write() as tx:
        (stale,) = await store.claim(tx, world.clock(), limit=10, lease=timedelta())
    async with world.service.database.write() as tx:
        (mine,) = await store.claim(tx, world.clock(), limit=10, lease=dispatch.LEASE)
    async with world.service.database.write() as tx:
        assert not await store.finish(tx, stale, state="failed")
        assert await store.finish(tx, mine, state="done")
    assert (await webhook(world)).state == "done"


async def test_two_replicas_share_the_work(world: World) -> None:
    """Dispatching at the same time, each webhook is taken once, by one of them."""
    await billed(world)
    for number in range(120):
        await told(world, key=f"key-{number}")
    async with AsyncExitStack() as stack:
        _, other = await a_replica(stack, world.settings, world.clock)
        taken = await asyncio.gather(world.rooms.dispatch.dispatch(), other.dispatch.dispatch())
    assert sum(taken) == 120
    rows = await world.rows("SELECT DISTINCT state, attempts FROM sync.webhook")
    assert [(row.state, row.attempts) for row in rows] == [("done", 1)]


async def test_one_that_cannot_be_followed_does_not_stop_the_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of ours with one webhook puts that one off, with why; the rest of the batch is done."""
    await billed(world)
    original = store.settle_now

    async def fails_for_bob(tx: Any, subscriptions: Any, at: Any) -> int:  # noqa: ANN401
        if "sub_bob" in subscriptions:
            raise RuntimeError("a bug")
        return await original(tx, subscriptions, at)

    monkeypatch.setattr(store, "settle_now", fails_for_bob)
    await told(world, "sub_bob", "bad")
    await told(world, "sub_ada", "good")
    await world.rooms.dispatch.dispatch()
    assert ((await webhook(world, "bad")).state, (await webhook(world, "good")).state) == ("waiting", "done")
    assert "a bug" in (await webhook(world, "bad")).last_error


async def test_reported_usage_events_are_looked_at(world: World) -> None:
    """Those of ours are kept with what Lago objects to, read back and compared now; others' ids are nothing to us."""
    await billed(world)
    (mine,) = await world.rows("SELECT * FROM sync.ledger_entry")
    world.clock.advance(hours=1)
    content = {"invalid_code": [mine.usage_event_id, "somebody's"], "missing_group_key": []}
    await receive(world, "events.errors", "events_errors", content)
    await world.rooms.dispatch.dispatch()
    (kept,) = await world.rows("SELECT * FROM sync.lago_event_error")
    assert (kept.usage_event_id, kept.problem) == (mine.usage_event_id, "invalid_code")
    (subject,) = await world.rows("SELECT * FROM sync.reconcile_subject")
    assert subject.external_subscription_id == "sub_ada"
    assert subject.due_at <= world.clock()


async def test_what_was_dealt_with_is_forgotten_after_months(world: World) -> None:
    """Webhooks carry customers' names: done ones go, failed ones stay until somebody has looked."""
    await told(world, key="done")
    await receive(world, "subscription.updated", "subscription", {"external_id": 7}, "failed")
    await world.rooms.dispatch.dispatch()
    assert await world.rooms.dispatch.forget() == 0
    world.clock.advance(days=91)
    assert await world.rooms.dispatch.forget() == 1
    assert [row.unique_key for row in await world.rows("SELECT unique_key FROM sync.webhook")] == ["failed"]
