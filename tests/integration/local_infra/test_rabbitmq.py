import asyncio
import os
import signal
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import aio_pika
import psutil
import pytest

from deploy.local.infra import rabbitmq
from deploy.local.infra.broker import provide_broker
from deploy.local.infra.errors import InfraError
from deploy.local.infra.external import external_rabbitmq
from deploy.local.infra.guarded import wait_until
from deploy.local.infra.rabbitmq import RabbitNode
from tests.infra import PACKAGES

IDLE_S = 3


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitNode]:
    """One node for the module: a start takes five seconds. Every test leaves it running."""
    server = provide_broker(tmp_path_factory.mktemp("node") / "rabbitmq", PACKAGES, ways=("installed", "unpacked"))
    assert isinstance(server, RabbitNode)
    server.start()
    yield server
    server.remove()


async def put(url: str, queue: str, body: bytes) -> None:
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        await channel.declare_queue(queue, durable=True, arguments={"x-queue-type": "quorum"})
        message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, queue, timeout=10)


async def take(url: str, queue: str) -> bytes:
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        message = await (await channel.get_queue(queue)).get(timeout=20)
        await message.ack()
        return message.body


def listening(pid: int) -> set[str]:
    return {c.laddr.ip for c in psutil.Process(pid).net_connections() if c.status == psutil.CONN_LISTEN}


def tree(broker: RabbitNode) -> list[psutil.Process]:
    assert broker._node is not None
    guard = psutil.Process(broker._node.guard_pid)
    return [guard, *guard.children(recursive=True)]


def test_a_private_node_listens_on_loopback_only(broker: RabbitNode) -> None:
    """Neither the broker, nor its distribution port, nor its epmd can be reached from another machine."""
    addresses = set[str]()
    for process in tree(broker):
        addresses |= listening(process.pid)
    assert addresses <= {"127.0.0.1", "::1"}


async def test_only_the_generated_user_may_enter(broker: RabbitNode) -> None:
    """The well-known guest has no way in, and the password and cookie are readable by the owner only."""
    with pytest.raises(aio_pika.exceptions.ProbableAuthenticationError):
        await aio_pika.connect(f"amqp://guest:guest@127.0.0.1:{broker.port}/")
    for name in ("password", "rabbitmq.conf", ".erlang.cookie"):
        assert stat.S_IMODE((broker.folder.path / name).stat().st_mode) & 0o077 == 0


async def test_it_uses_little_while_idle(broker: RabbitNode) -> None:
    """An idle node takes less than a tenth of a core: its schedulers sleep instead of spinning."""
    assert broker.pid is not None
    process = psutil.Process(broker.pid)

    async def used_s() -> float:
        before = process.cpu_times()
        await asyncio.sleep(IDLE_S)
        after = process.cpu_times()
        return after.user + after.system - before.user - before.system

    # The boot's own work ends a while after the listener opens.
    deadline = time.monotonic() + 30
    while (used := await used_s()) >= IDLE_S / 10:
        assert time.monotonic() < deadline, f"used {used:.2f} s of processor time in {IDLE_S} s"


async def test_a_stop_leaves_nothing_but_messages_and_the_url(broker: RabbitNode) -> None:
    """Stop ends the node, its epmd and all their helpers, also when they are frozen; after the next start the same URL
    leads to the same queues with their messages.
    """
    url = broker.url
    await put(url, "kept", b"over a restart")
    processes = tree(broker)
    assert len(processes) > 3
    broker.freeze()
    await asyncio.to_thread(broker.stop)
    assert not [process for process in processes if process.is_running() and process.status() != "zombie"]
    await asyncio.to_thread(broker.start)
    assert broker.url == url
    assert await take(url, "kept") == b"over a restart"


async def test_a_node_that_died_is_started_again_with_every_confirmed_message(broker: RabbitNode) -> None:
    """A node that was killed from outside takes its epmd along, and is not running; start brings it back, and a message
    that was confirmed is still there.
    """
    await put(broker.url, "crash", b"confirmed")
    await asyncio.to_thread(broker.sync)
    assert broker.pid is not None
    processes = tree(broker)
    os.kill(broker.pid, signal.SIGKILL)
    await asyncio.to_thread(wait_until, lambda: not broker.running, 5, "the guard to notice")
    assert not [process for process in processes if process.is_running() and process.status() != "zombie"]
    await asyncio.to_thread(broker.start)
    assert broker.running
    assert await take(broker.url, "crash") == b"confirmed"


async def test_a_frozen_node_answers_nothing_until_it_thaws(broker: RabbitNode) -> None:
    """While frozen, the kernel still accepts a connection and nobody answers on it; after thaw the broker does."""
    assert broker.port is not None
    broker.freeze()
    with socket.create_connection(("127.0.0.1", broker.port), timeout=2) as held:
        held.sendall(rabbitmq.PROTOCOL_HEADER)
        held.settimeout(0.5)
        with pytest.raises(TimeoutError):
            held.recv(1)
        broker.thaw()
        held.settimeout(10)
        assert held.recv(1) == b"\x01"


def test_a_second_node_in_the_same_folder_is_refused(broker: RabbitNode) -> None:
    """Two nodes never run in one folder: the second is told what to do."""
    with pytest.raises(InfraError, match="already running"):
        RabbitNode(broker.folder.path, broker.installation).start()


def test_a_given_url_is_used_and_never_touched(broker: RabbitNode, tmp_path: Path) -> None:
    """A given URL comes first; the server behind it is checked, and cannot be killed through us."""
    given = provide_broker(tmp_path, tmp_path, url=broker.url)
    given.start()
    assert (given.source, given.url, given.running) == ("url", broker.url, True)
    with pytest.raises(InfraError, match="is not ours"):
        given.kill()
    given.stop()
    assert broker.running


def test_a_given_url_that_does_not_answer_is_an_error_without_the_password() -> None:
    """A given broker that is down is reported, not replaced, and the password stays out of the message."""
    with pytest.raises(InfraError, match="does not answer") as error:
        external_rabbitmq("amqp://user:hidden@127.0.0.1:9/").start()
    assert "hidden" not in str(error.value)
