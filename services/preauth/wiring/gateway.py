"""What is known of chargers, and the gateway that sees them."""

from dataclasses import replace

from services.preauth.chargers.handlers import Chargers
from services.preauth.chargers.jobs import Newcomers, Readiness
from services.preauth.chargers.observer import Observer
from services.preauth.decision.desk import GatewayDesk
from services.preauth.gateway import descriptors
from services.preauth.gateway.server import Gateway
from services.preauth.settings import PreauthSettings
from services.preauth.wiring.taps import TapParts
from shared.contracts.events import sync
from shared.contracts.requests import preauth as asked
from shared.runtime.log import get_logger
from shared.runtime.service import Service
from shared.runtime.supervisor import Every
from shared.web.server import bind

log = get_logger(__name__)

HOUR_S = 3600.0
NOTE_EVERY_S = 10.0
CHECK_EVERY_S = 10.0
ANSWERS_EVERY_S = 0.5


def wire_gateway(service: Service, settings: PreauthSettings, taps: TapParts, *, listens: bool) -> Gateway | None:
    """Wire what is known of chargers, and the gateway that sees them, where it shall listen."""
    database, outbox, clock, new_id = service.database, service.outbox, service.clock, service.new_id
    readiness = Readiness(database, outbox, service.requester, clock=clock, new_id=new_id)
    chargers, newcomers = Chargers(database, readiness.look), Newcomers(database, clock=clock)
    service.dispatcher.query(asked.GetCharger, chargers.get_charger)
    service.dispatcher.query(asked.ListChargers, chargers.list_chargers)
    service.consumer.on(sync.TransactionStarted, newcomers.session_started)
    service.consumer.on(sync.ChargerOperationFinished, readiness.operation_finished)
    observer = Observer(database, outbox, instance=new_id(), clock=clock, new_id=new_id)
    service.parts += [
        Every("chargers.note_tapped", NOTE_EVERY_S, newcomers.note_tapped),
        readiness,
        observer,
        Every("chargers.check", CHECK_EVERY_S, observer.check),
        Every("chargers.forget", HOUR_S, observer.forget),
    ]
    config = settings.gateway()
    if config is None or not listens:
        return None
    limit = descriptors.raised()
    if (why := descriptors.too_small(limit, config.max_chargers)) is not None:
        log.warning("Not all chargers will fit: %s.", why, action="gateway.too_few_descriptors")

    async def too_few() -> str | None:
        return why

    service.notes["descriptors"] = too_few
    room = descriptors.room(limit)
    config = replace(config, max_chargers=min(config.max_chargers, room.chargers), max_unasked=room.unasked)
    desk = GatewayDesk(taps.decider, database, lambda: len(taps.spool) > 0)
    listener = bind(settings.host, settings.ocpp_port, setting="EXPRESSYNC_PREAUTH_OCPP_PORT")
    gateway = Gateway(
        config,
        listener,
        desk=desk,
        watcher=observer,
        clock=clock,
        new_id=new_id,
        registry=service.registry,
    )
    observer.alive = gateway.tunnels
    service.parts.append(Every("gateway.answers", ANSWERS_EVERY_S, desk.write_answers, at_stop="once more"))
    return gateway
