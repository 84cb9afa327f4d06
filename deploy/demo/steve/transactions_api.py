"""`/steve/api/v1/transactions`. Source: facts/steve.md, "Transactions"."""

from collections.abc import Iterable
from datetime import UTC

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deploy.demo.steve import rules
from deploy.demo.steve.api import (
    bad_request,
    choice_param,
    int_list_param,
    int_param,
    json_response,
    list_param,
    moment_param,
    not_found,
    path_int,
    text_param,
)
from deploy.demo.steve.model import Transaction, tag_key
from deploy.demo.steve.settings import SteveVersion
from deploy.demo.steve.state import SteveState
from deploy.demo.steve.views import transaction_details, transaction_view

PERIODS = ("ALL", "TODAY", "LAST_10", "LAST_30", "LAST_90", "FROM_TO")


class TransactionsApi:
    def __init__(self, state: SteveState, version: SteveVersion) -> None:
        self._state = state
        self._version = version

    def routes(self) -> list[Route]:
        routes = [Route("/transactions", self.list, methods=["GET"])]
        if self._version.has_transaction_details:
            routes += [
                Route("/transactions/{pk}", self.get, methods=["GET"]),
                Route("/transactions/{pk}/stop", self.stop, methods=["PATCH"]),
            ]
        return routes

    async def list(self, request: Request) -> Response:
        """Primary key descending, all of them."""
        chosen = sorted(self._filtered(request), key=lambda one: one.pk, reverse=True)
        return json_response([transaction_view(self._state, one) for one in chosen])

    async def get(self, request: Request) -> Response:
        wanted = choice_param(request, "energyValuesOnly", ("true", "false"), "true")
        transaction = self._find(path_int(request, "pk"))
        return json_response(transaction_details(self._state, transaction, energy_only=wanted == "true"))

    async def stop(self, request: Request) -> Response:
        """In the database only; the charger goes on charging."""
        self._state.stop_manually(self._find(path_int(request, "pk")).pk)
        return Response()

    def _find(self, pk: int) -> Transaction:
        transaction = self._state.transactions.get(pk)
        if transaction is None:
            raise not_found(f"There is no transaction with id '{pk}'")
        return transaction

    def _filtered(self, request: Request) -> Iterable[Transaction]:
        has_lists = self._version.has_lists
        pks = int_list_param(request, "transactionPk", has_lists=has_lists)
        boxes = set(list_param(request, "chargeBoxId", has_lists=has_lists))
        tags = {tag_key(one) for one in list_param(request, "ocppIdTag", has_lists=has_lists)}
        users = set(int_list_param(request, "userId", has_lists=has_lists))
        connector = int_param(request, "connectorId")
        kind = choice_param(request, "type", ("ALL", "ACTIVE", "STOPPED"), "ALL")
        if any(user <= 0 for user in users) or text_param(request, "returnCSV") == "true":
            raise bad_request()
        found: Iterable[Transaction] = self._state.transactions.values()
        if pks:
            known = self._state.transactions
            found = [known[pk] for pk in sorted(set(pks)) if pk in known]
        if boxes:
            found = [one for one in found if one.charge_box_id in boxes]
        if tags:
            found = [one for one in found if tag_key(one.id_tag) in tags]
        if users:
            found = [one for one in found if self._user_of(one) in users]
        if connector is not None:
            found = [one for one in found if one.connector_id == connector]
        if kind != "ALL":
            found = [one for one in found if one.active == (kind == "ACTIVE")]
        return self._in_period(request, found)

    def _in_period(self, request: Request, found: Iterable[Transaction]) -> Iterable[Transaction]:
        """`from` and `to` act only with FROM_TO, and on the start that the station reported."""
        period = choice_param(request, "periodType", PERIODS, "ALL")
        start, end = moment_param(request, "from"), moment_param(request, "to")
        if period == "FROM_TO":
            if start is None or end is None or end <= start:
                raise bad_request()
            return [one for one in found if start <= one.start_at <= end]
        days = rules.period_days(period, self._state.clock().astimezone(UTC).date())
        if days is None:
            return found
        first, last = days
        return [one for one in found if first <= one.start_at.astimezone(UTC).date() <= last]

    def _user_of(self, transaction: Transaction) -> int | None:
        tag = self._state.tags.get(transaction.tag_pk)
        return None if tag is None else tag.user_pk
