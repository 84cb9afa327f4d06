"""The policy `enforce` and a SteVe that does not answer, or does not write."""

from datetime import timedelta

import pytest

from services.sync.steve.models import Tag, TagForm
from services.sync.upstreams.errors import UpstreamError
from tests.integration.services.sync.conftest import Build


async def test_a_steve_that_is_down_is_left_alone_by_the_policy(
    build_world: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    """However many cards it would block: it asks once a turn, and no more than the circuit lets it, without a word for
    each card. What it wanted is done once SteVe answers.
    """
    world = await build_world(card_policy="enforce")
    for number in range(20):
        world.steve.state.add_tag(f"LONER-{number}")
    await world.rooms.mirror.refresh()
    world.steve.faults.set("down")
    before = world.rooms.steve.requests
    for _ in range(10):
        with pytest.raises(UpstreamError):
            await world.rooms.policy.enforce()
    assert world.rooms.steve.requests - before <= 6
    assert "The policy could not be applied" not in "".join(capsys.readouterr())
    world.steve.faults.clear()
    world.rooms.steve._caller._breaker.succeeded()
    assert await world.rooms.policy.enforce() == 20


async def test_an_expired_card_is_told_once_and_left_alone(
    build_world: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    """SteVe would not write it, so it is not asked, and the log tells of it once."""
    world = await build_world(card_policy="enforce")
    tag = world.steve.state.add_tag("OLD")
    tag.expiry = world.clock() - timedelta(days=1)
    world.steve.state.add_tag("NEW")
    await world.rooms.mirror.refresh()
    assert await world.rooms.policy.enforce() == 1
    before = world.rooms.steve.requests
    for _ in range(10):
        assert await world.rooms.policy.enforce() == 0
    assert world.rooms.steve.requests == before
    assert "".join(capsys.readouterr()).count("takes no change of it") == 1


async def test_a_card_that_was_linked_meanwhile_is_not_blocked(build_world: Build) -> None:
    """A turn over many cards takes minutes, and an operator links one of them in that time; another one is linked no
    longer by then, and is blocked at the next turn.
    """
    world = await build_world(card_policy="enforce")
    for name in ("A", "B"):
        world.steve.state.add_tag(name)
    await world.rooms.mirror.refresh()
    write = world.rooms.policy._cards._writer.write
    with pytest.MonkeyPatch.context() as patched:

        async def written(tag: Tag, form: TagForm) -> Tag:
            await world.link("B" if tag.id_tag == "A" else "A")
            return await write(tag, form)

        patched.setattr(world.rooms.policy._cards._writer, "write", written)
        assert await world.rooms.policy.enforce() == 1
    limits = {name: tag.limit for name in ("A", "B") if (tag := world.steve.state.tag(name)) is not None}
    assert sorted(limits.values()) == [0, 1]
    [blocked] = await world.events("card.blocked")
    assert limits[blocked.data["id_tag"]] == 0
