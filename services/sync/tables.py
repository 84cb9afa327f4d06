"""All of sync's tables: importing this completes the metadata."""

from services.sync.cards import tables as cards
from services.sync.lago import tables as lago
from services.sync.ledger import tables as ledger
from services.sync.links import tables as links
from services.sync.metadata import SCHEMA, metadata
from services.sync.operations import tables as operations
from services.sync.reconcile import tables as reconcile
from services.sync.runs import tables as runs
from services.sync.sessions import tables as sessions
from services.sync.upstreams import tables as upstreams
from services.sync.webhooks import tables as webhooks

ROOMS = (cards, lago, ledger, links, operations, reconcile, runs, sessions, upstreams, webhooks)

__all__ = ["ROOMS", "SCHEMA", "metadata"]
