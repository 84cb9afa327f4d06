"""Sync speaks to SteVe's REST and to Lago. The composition root: its rooms are wired in `wiring`, and here to one."""

import gc
from dataclasses import dataclass
from functools import partial

from starlette.applications import Starlette

from services.sync.ledger.linking import Linking
from services.sync.operations.handlers import Operations
from services.sync.runs.loop import Loop
from services.sync.settings import SyncSettings
from services.sync.tables import metadata
from services.sync.wiring.cards import CardRooms, wire_cards
from services.sync.wiring.due import DueRooms, wire_due
from services.sync.wiring.proof import ProofRooms, wire_proof
from services.sync.wiring.sessions import SessionRooms, wire_sessions
from services.sync.wiring.upstreams import Upstreams, wire_upstreams
from shared.contracts.requests import sync as requests
from shared.contracts.requests import sync_cards as card_requests
from shared.runtime.clock import Clock, NewId, utc_now, uuid7
from shared.runtime.service import Service, assemble, run
from shared.web.server import HttpServer, bind
from shared.web.tracing import Traced

# Requests may hold a connection while a charger thinks for 30 s; the work of the house goes on beside them.
POOL_SIZE = 20
# Billing comes first: a backlog of sessions is told to the others at a quarter of the pace at which it could be.
RELAY_REST = 3.0
# Objects made before the collector looks through them. A batch in hand is some ten thousand of them, all of which live
# until it is done and then go by themselves; to look every 700 took a tenth of the service's time.
YOUNG = 10_000


@dataclass(frozen=True)
class Rooms(Upstreams, CardRooms, SessionRooms, ProofRooms, DueRooms):
    """What does the work; the service's parts call it in turns, and tests call it turn by turn."""

    operations: Operations
    linking: Linking


def build(settings: SyncSettings, *, clock: Clock = utc_now, new_id: NewId = uuid7) -> Service:
    service = assemble(
        "sync", settings, metadata, clock=clock, new_id=new_id, pool_size=POOL_SIZE, relay_rest=RELAY_REST
    )
    intake = wire(service, settings).intake
    listener = bind(settings.host, settings.port, setting="EXPRESSYNC_SYNC_PORT")
    # Last to start and first to stop: what it takes in, the parts above it finish.
    service.parts.append(HttpServer("http", Traced(Starlette(routes=[intake.route()])), listener))
    return service


def wire(service: Service, settings: SyncSettings) -> Rooms:
    """Put the rooms together and into the service."""
    upstreams = wire_upstreams(service, settings)
    cards = wire_cards(service, settings, upstreams)
    sessions = wire_sessions(service, settings, upstreams, cards.mirror)
    proof = wire_proof(service, settings, upstreams, sessions)
    due = wire_due(service, settings)
    operations = wire_operations(service, upstreams)
    linking = Linking(cards.links, sessions.held, service.clock)
    service.dispatcher.command(requests.LinkCard, linking.link_card)
    service.dispatcher.command(card_requests.RelinkCard, linking.relink_card)
    return Rooms(
        **vars(upstreams),
        **vars(cards),
        **vars(sessions),
        **vars(proof),
        **vars(due),
        operations=operations,
        linking=linking,
    )


def wire_operations(service: Service, upstreams: Upstreams) -> Operations:
    operations = Operations(
        upstreams.steve,
        service.database,
        service.outbox,
        clock=service.clock,
        new_id=service.new_id,
        same_steve=partial(upstreams.identity.check, urgent=True),
    )
    service.dispatcher.effect(requests.OperateCharger, operations.operate_charger)
    service.parts.append(Loop("operations.abandoned", operations.close_abandoned, 30.0))
    return operations


def main() -> None:
    gc.set_threshold(YOUNG, 10, 10)
    run("sync", SyncSettings, build)
