"""What is said about RabbitMQ. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from deploy.local.doctor.result import Result, follow, in_words, no, yes

REACHABLE: Final = "broker.reachable"
CREDENTIALS: Final = "broker.credentials"
TOPOLOGY: Final = ("broker.topology", "broker.parked")
WAYS: Final = {
    "url": "given by its URL",
    "installed": "a private node of the installed rabbitmq-server",
    "unpacked": "a private node of the packages unpacked under .local",
    "docker": "a private node in Docker",
    "none": "a private node",
}


@dataclass(frozen=True, slots=True)
class Found:
    """What was found. `answers`: it speaks AMQP. `refusal`: why it let nobody in. `leaderless`: a queue that gave no
    answer though the broker did. `parked`: messages by queue.
    """

    way: str
    shown: str
    running: bool | None = None
    start: str = "expressync up"
    readable: bool = True
    answers: bool = False
    refusal: str | None = None
    version: str = ""
    missing: tuple[str, ...] = ()
    leaderless: str | None = None
    parked: Mapping[str, int] = field(default_factory=dict)


def judge(found: Found) -> list[Result]:
    if found.running is False:
        return _not_running(found)
    if not found.readable:
        remedy = "Write EXPRESSYNC_AMQP_URL like amqp://user:password@host:5672/."
        return [
            no(REACHABLE, "The address of RabbitMQ cannot be read.", remedy),
            *follow((CREDENTIALS, *TOPOLOGY), "RabbitMQ cannot be asked.", remedy),
        ]
    if not found.answers:
        remedy = "Start it, correct EXPRESSYNC_AMQP_URL, or leave that out to use a private RabbitMQ."
        if found.way != "url":
            remedy = f"Restart it with `expressync down --keep` and `{found.start}`."
        return [
            no(REACHABLE, f"Nothing that speaks AMQP answers at {found.shown}.", remedy),
            *follow((CREDENTIALS, *TOPOLOGY), "RabbitMQ cannot be asked.", remedy),
        ]
    version = f"RabbitMQ {found.version}" if found.version else "RabbitMQ"
    reachable = yes(REACHABLE, f"{version}, {WAYS[found.way]}, at {found.shown}.")
    if found.refusal is not None:
        remedy = "Correct user, password and virtual host in EXPRESSYNC_AMQP_URL; the user needs all rights in it."
        return [
            reachable,
            no(CREDENTIALS, f"RabbitMQ lets nobody in with them: {found.refusal}.", remedy),
            *follow(TOPOLOGY, "RabbitMQ does not let us in.", remedy),
        ]
    let_in = yes(CREDENTIALS, "One can sign in with them.")
    if found.leaderless is not None:
        return [reachable, let_in, *_leaderless(found.leaderless)]
    return [reachable, let_in, _topology(found), _parked(found)]


def _not_running(found: Found) -> list[Result]:
    why, remedy = "The private RabbitMQ is not running.", f"Start it with `{found.start}`."
    way = ""
    if found.way == "none":
        way = " No rabbitmq-server is installed and no Docker engine answers, so its packages will be downloaded."
    return [no(REACHABLE, why + way, remedy), *follow((CREDENTIALS, *TOPOLOGY), why, remedy)]


def _leaderless(queue: str) -> list[Result]:
    why = f"RabbitMQ answers, but the queue {queue} does not: it has lost its leader."
    remedy = (
        "Start the nodes of RabbitMQ that are down. Where none is, it was killed within seconds of the queue's"
        f" declaration: delete it (`rabbitmqctl delete_queue {queue}`), and the services declare it again within"
        " seconds."
    )
    return [no(TOPOLOGY[0], why, remedy), *follow(TOPOLOGY[1:], "The queues cannot be asked.", remedy)]


def _topology(found: Found) -> Result:
    if not found.missing:
        return yes("broker.topology", "All exchanges and queues are there.")
    return no(
        "broker.topology",
        f"There is no {in_words(found.missing)}.",
        f"Start the services (`{found.start}`): each declares them all.",
    )


def _parked(found: Found) -> Result:
    count = sum(found.parked.values())
    if not count:
        return yes("broker.parked", "None is parked.")
    where = ", ".join(f"{queue} {number}" for queue, number in found.parked.items() if number)
    return no(
        "broker.parked",
        f"{count} {'message' if count == 1 else 'messages'} could not be handled and lie aside: {where}.",
        "See why with `expressync parked list`; send them again with `expressync parked replay`.",
    )
