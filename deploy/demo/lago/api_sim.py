"""`/_sim`: what a test or a demo does to the simulator itself. No key, no faults, no limits, not counted."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deploy.demo.lago import answers, lifecycle, views
from deploy.demo.lago.faults import Fault, FaultControl
from deploy.demo.lago.gate import Requests
from deploy.demo.lago.seed import BadSeedError, sow
from deploy.demo.lago.state import LagoState
from deploy.demo.lago.values import from_datetime, iso, iso_millis, read_iso, units
from deploy.demo.lago.webhooks import Webhooks

Json = dict[str, Any]


class SimApi:
    """Every body and answer is JSON. What cannot be done answers 422 `{"error": "..."}`.

    - `GET state`: counts, counted usage (units are net and not clamped; not with `?counted=no`), requests, faults.
    - `GET events?external_subscription_id=`: stored events in order of arrival, and whether each counts.
    - `POST faults` `{"name", "value", "path", "method", "count"}`, or `{"fault": "slow=800,count=2"}`;
      `DELETE faults?name=` ends one or all.
    - `POST terminate` `{"external_id", "at", "finalize"}`; `POST upgrade`, `POST downgrade`
      `{"external_id", "plan_code"}`; `POST apply_downgrade` `{"external_id"}`.
    - `POST finalize_period` `{"external_id", "from", "to"}`; instants are ISO 8601 and may be left out.
    - `POST clock` `{"now": ISO}` or `{"advance_s": 3600}`.
    - `POST permissions` `{"event_writes_allowed": false}`.
    - `POST seed`: more of what `seed.py` describes.
    - `POST webhooks` `{"webhook_type", "object_type", "object"}` sends one; `{"url", "algorithm"}` sets
      where they go and how they are signed; `GET webhooks` lists deliveries.
    - `POST report_event_errors`: the hourly `events.errors`, now.
    """

    def __init__(self, state: LagoState, faults: FaultControl, requests: Requests, webhooks: Webhooks) -> None:
        self._state = state
        self._faults = faults
        self._requests = requests
        self._webhooks = webhooks

    def routes(self) -> list[Route]:
        changes: dict[str, Callable[[Json], Json]] = {
            "/faults": self._add_fault,
            "/terminate": self._terminate,
            "/upgrade": self._upgrade,
            "/downgrade": self._downgrade,
            "/apply_downgrade": self._apply_downgrade,
            "/finalize_period": self._finalize_period,
            "/clock": self._clock,
            "/permissions": self._permissions,
            "/seed": self._seed,
            "/webhooks": self._webhook,
            "/report_event_errors": self._report_event_errors,
        }
        return [
            Route("/state", self.state, methods=["GET"]),
            Route("/events", self.events, methods=["GET"]),
            Route("/faults", self.list_faults, methods=["GET"]),
            Route("/faults", self.end_faults, methods=["DELETE"]),
            Route("/webhooks", self.list_webhooks, methods=["GET"]),
            *(Route(path, _change(change), methods=["POST"]) for path, change in changes.items()),
        ]

    async def state(self, request: Request) -> Response:
        state = self._state
        usage: dict[str, dict[str, Json]] = {}
        # Counting goes over all events: whoever only wants to know how many there are says so.
        for subscription in state.subscriptions if request.query_params.get("counted") != "no" else ():
            charges = state.plans[subscription.plan_code].charges
            for code in (charge.metric_code for charge in charges):
                total, count = state.counted(subscription.external_id, code)
                counted = {"units": units(total), "events_count": count}
                usage.setdefault(subscription.external_id, {})[code] = counted
        return answers.json(
            {
                "events": len(state.events),
                "customers": len(state.customers),
                "subscriptions": [
                    {"external_id": one.external_id, "status": one.status, "plan_code": one.plan_code}
                    for one in state.subscriptions
                ],
                "counted": usage,
                "now": iso(state.now_us()),
                "faults": self._fault_list(),
                "requests": {
                    "total": self._requests.total,
                    "by_route": dict(self._requests.by_route),
                    "by_status": {str(status): number for status, number in self._requests.by_status.items()},
                    "most_in_flight": self._requests.most_in_flight,
                },
            }
        )

    async def events(self, request: Request) -> Response:
        wanted = request.query_params.get("external_subscription_id")
        found = [one for one in self._state.events if wanted in (None, one.external_subscription_id)]
        return answers.json(
            {
                "events": [
                    {
                        "transaction_id": one.transaction_id,
                        "external_subscription_id": one.external_subscription_id,
                        "code": one.code,
                        "timestamp": iso_millis(one.timestamp_us),
                        "properties": one.properties,
                        "counted": self._state.counts(one),
                    }
                    for one in found
                ]
            }
        )

    async def list_faults(self, request: Request) -> Response:
        del request
        return answers.json({"faults": self._fault_list()})

    async def end_faults(self, request: Request) -> Response:
        self._faults.clear(request.query_params.get("name"))
        return answers.json({"faults": self._fault_list()})

    async def list_webhooks(self, request: Request) -> Response:
        del request
        return answers.json(
            {
                "webhooks": [
                    {
                        "webhook_type": one.webhook_type,
                        "unique_key": one.unique_key,
                        "statuses": one.statuses,
                        "state": one.state,
                    }
                    for one in self._webhooks.deliveries
                ]
            }
        )

    def _fault_list(self) -> list[Json]:
        return [
            {"name": one.name, "value": one.value, "path": one.path, "method": one.method, "count": one.count}
            for one in self._faults.in_force()
        ]

    def _add_fault(self, body: Json) -> Json:
        given = Fault.parse(body["fault"]) if "fault" in body else Fault(**body)
        self._faults.add(given.name, given.value, path=given.path, method=given.method, count=given.count)
        return {"faults": self._fault_list()}

    def _terminate(self, body: Json) -> Json:
        at = body.get("at")
        one = lifecycle.terminate(
            self._state,
            body["external_id"],
            at_us=None if at is None else read_iso(at),
            finalize=bool(body.get("finalize", True)),
        )
        return {"subscription": views.subscription(self._state, one)}

    def _upgrade(self, body: Json) -> Json:
        one = lifecycle.upgrade(self._state, body["external_id"], self._plan(body))
        return {"subscription": views.subscription(self._state, one)}

    def _downgrade(self, body: Json) -> Json:
        one = lifecycle.downgrade(self._state, body["external_id"], self._plan(body))
        return {"subscription": views.subscription(self._state, one)}

    def _apply_downgrade(self, body: Json) -> Json:
        one = lifecycle.apply_downgrade(self._state, body["external_id"])
        return {"subscription": views.subscription(self._state, one)}

    def _finalize_period(self, body: Json) -> Json:
        first, last = body.get("from"), body.get("to")
        final = lifecycle.finalize_period(
            self._state,
            body["external_id"],
            from_us=None if first is None else read_iso(first),
            to_us=None if last is None else read_iso(last),
        )
        return {"from": iso_millis(final.from_us), "to": iso_millis(final.to_us), "invoice": final.invoice_id}

    def _clock(self, body: Json) -> Json:
        state = self._state
        if "now" in body:
            state.clock_offset_us = read_iso(body["now"]) - from_datetime(state.settings.clock())
        state.clock_offset_us += round(body.get("advance_s", 0) * 1_000_000)
        lifecycle.catch_up(state)
        return {"now": iso(state.now_us())}

    def _permissions(self, body: Json) -> Json:
        self._state.event_writes_allowed = bool(body["event_writes_allowed"])
        return {"event_writes_allowed": self._state.event_writes_allowed}

    def _seed(self, body: Json) -> Json:
        sow(self._state, body)
        return {"customers": len(self._state.customers), "subscriptions": len(self._state.subscriptions)}

    def _webhook(self, body: Json) -> Json:
        if "url" in body:
            self._webhooks.url = body["url"]
        if "algorithm" in body:
            if body["algorithm"] not in ("hmac", "jwt"):
                raise ValueError(f"A webhook is signed with hmac or jwt, not {body['algorithm']!r}.")
            self._webhooks.algorithm = body["algorithm"]
        if "webhook_type" in body:
            self._webhooks.send(body["webhook_type"], body["object_type"], body["object"])
        return {"url": self._webhooks.url, "algorithm": self._webhooks.algorithm}

    def _report_event_errors(self, body: Json) -> Json:
        del body
        self._webhooks.report_event_errors()
        return {"webhooks": len(self._webhooks.deliveries)}

    def _plan(self, body: Json) -> str:
        code = str(body["plan_code"])
        if code not in self._state.plans:
            raise ValueError(f"There is no plan {code!r}.")
        return code


def _change(change: Callable[[Json], Json]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            body = msgspec.json.decode(await request.body() or b"{}", type=dict[str, Any])
            return answers.json(change(body))
        except KeyError as error:
            return answers.json({"error": f"The body needs {error}."}, 422)
        except (BadSeedError, lifecycle.NoSuchSubscriptionError, ValueError, TypeError) as error:
            return answers.json({"error": str(error)}, 422)

    return endpoint
