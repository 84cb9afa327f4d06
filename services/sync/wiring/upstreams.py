"""SteVe and Lago as this service speaks to them."""

import time
from dataclasses import dataclass
from functools import partial

from services.sync.lago.client import LagoClient
from services.sync.lago.gate import Gate
from services.sync.lago.rules import Metric
from services.sync.lago.subscriptions import Subscriptions
from services.sync.sessions.identity import Identity
from services.sync.settings import SyncSettings
from services.sync.steve.client import SteveClient, SteveVersion
from services.sync.upstreams.breaker import Breaker
from services.sync.upstreams.health import Health
from shared.runtime.service import Service


@dataclass(frozen=True)
class Upstreams:
    health: Health
    steve: SteveClient
    identity: Identity
    lago: LagoClient
    gate: Gate
    subscriptions: Subscriptions


def wire_upstreams(service: Service, settings: SyncSettings) -> Upstreams:
    clock = service.clock
    health = Health(service.database, service.outbox, clock=clock, new_id=service.new_id)
    steve = SteveClient(
        settings.steve_url,
        user=settings.steve_user,
        password=settings.steve_password.get_secret_value(),
        api_key=settings.steve_api_key.get_secret_value(),
        version=SteveVersion.parse(settings.steve_version),
        timeout_s=settings.steve_timeout_s,
        breaker=Breaker(time.monotonic),
        watch=health.note,
    )
    lago = LagoClient(
        settings.lago_url,
        api_key=settings.lago_api_key.get_secret_value(),
        timeout_s=settings.lago_timeout_s,
        requests_per_s=settings.lago_requests_per_s,
        breaker=Breaker(time.monotonic),
        watch=health.note,
    )
    health.probes = {"steve": steve.probe, "lago": lago.probe}
    service.closing += [steve.close, lago.close]
    service.parts.append(health)
    gate = Gate(
        lago,
        metric=Metric(settings.metric_code, settings.metric_property),
        clock=clock,
        object_to=partial(health.object_to, "lago", "billing"),
    )
    subscriptions = Subscriptions(lago, service.database, metric_code=settings.metric_code, clock=clock)
    identity = Identity(
        steve,
        service.database,
        steve_id=settings.steve_id,
        clock=clock,
        object_to=partial(health.object_to, "steve", "identity"),
    )
    # Before its client is closed.
    service.closing.append(identity.close)
    return Upstreams(health, steve, identity, lago, gate, subscriptions)
