"""Audit remembers everything that happened. The composition root: all wiring of the service is here."""

from services.audit.record.handlers import Recorder
from services.audit.search.handlers import Search
from services.audit.settings import AuditSettings
from services.audit.tables import metadata
from shared.contracts.events import admin_api, preauth, sync  # the vocabulary must be loaded to be understood
from shared.contracts.requests.audit import GetEntry, SearchEntries
from shared.runtime.clock import Clock, NewId, utc_now, uuid7
from shared.runtime.service import Service, assemble, run

VOCABULARY = (admin_api, preauth, sync)


def build(settings: AuditSettings, *, clock: Clock = utc_now, new_id: NewId = uuid7) -> Service:
    service = assemble("audit", settings, metadata, clock=clock, new_id=new_id)
    service.consumer.on_any(Recorder(clock).record)
    search = Search(service.database)
    service.dispatcher.query(SearchEntries, search.search_entries)
    service.dispatcher.query(GetEntry, search.get_entry)
    return service


def main() -> None:
    run("audit", AuditSettings, build)
