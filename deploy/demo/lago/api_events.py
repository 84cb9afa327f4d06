"""`/api/v1/events`: taking events and showing them (facts: Events, Reading back)."""

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deploy.demo.lago import answers, views
from deploy.demo.lago.ingest import MAX_BATCH, Reader
from deploy.demo.lago.model import Event
from deploy.demo.lago.state import LagoState
from deploy.demo.lago.values import read_iso

_FORBIDDEN: Final = "write_action_not_allowed_for_event"


class EventsApi:
    def __init__(self, state: LagoState) -> None:
        self._state = state

    def routes(self) -> list[Route]:
        return [
            Route("/events", self.create, methods=["POST"]),
            Route("/events", self.index, methods=["GET"]),
            Route("/events/batch", self.create_batch, methods=["POST"]),
            Route("/events/{transaction_id}", self.show, methods=["GET"]),
        ]

    async def create(self, request: Request) -> Response:
        if not self._state.event_writes_allowed:
            return answers.forbidden(_FORBIDDEN)
        item = await answers.read_envelope(request, "event")
        if not isinstance(item, dict) or not item:
            return answers.missing("event")
        events = self._store([item], single=True)
        return events if isinstance(events, Response) else answers.json({"event": self._created(events[0])})

    async def create_batch(self, request: Request) -> Response:
        if not self._state.event_writes_allowed:
            return answers.forbidden(_FORBIDDEN)
        items = await answers.read_envelope(request, "events")
        if items is None:
            return answers.missing("events")
        # As Rails' strong parameters do: what is no object is left out, and later indexes move up.
        objects = [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
        if not objects:
            return answers.invalid({"events": ["no_events"]})
        if len(objects) > MAX_BATCH:
            return answers.invalid({"events": ["too_many_events"]})
        events = self._store(objects, single=False)
        if isinstance(events, Response):
            return events
        return answers.json({"events": [self._created(event) for event in events]})

    async def index(self, request: Request) -> Response:
        query = request.query_params
        span: dict[str, int | None] = {}
        for name in ("timestamp_from", "timestamp_to"):
            try:
                span[name] = read_iso(query[name]) if query.get(name) else None
            except ValueError:
                return answers.invalid({name: ["invalid_date"]})
        external_id = query.get("external_subscription_id") or None
        from_us = span["timestamp_from"]
        if query.get("timestamp_from_started_at") == "true" and external_id is not None:
            known = self._state.subscriptions_called(external_id)
            from_us = known[-1].started_us if known else from_us
        found = self._state.events.search(
            external_subscription_id=external_id,
            code=query.get("code") or None,
            from_us=from_us,
            to_us=span["timestamp_to"],
        )
        return answers.page("events", found, query, lambda event: views.event(self._state, event))

    async def show(self, request: Request) -> Response:
        event = self._state.events.find(request.path_params["transaction_id"])
        if event is None:
            return answers.not_found("event")
        return answers.json({"event": views.event(self._state, event)})

    def _store(self, items: list[dict[str, Any]], *, single: bool) -> list[Event] | Response:
        """All or nothing: the stored events, or the answer that says why none was."""
        reading = Reader(self._state.metrics, self._state.max_properties_bytes).read_all(items, self._state.now_us())
        errors = reading.errors or ({} if reading.too_large else self._state.events.duplicates(reading.events))
        if errors:
            if not single:
                return answers.invalid({str(index): problem for index, problem in errors.items()})
            problem = errors[0]
            return answers.invalid(problem if isinstance(problem, dict) else {"expression": [problem]})
        if reading.too_large:
            return answers.html(answers.HTML_500, 500)
        self._state.add_events(reading.events)
        return reading.events

    def _created(self, event: Event) -> dict[str, Any]:
        return views.event_created(event, clickhouse=self._state.events.kind == "clickhouse")
