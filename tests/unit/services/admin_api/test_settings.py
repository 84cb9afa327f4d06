"""Settings of the operators' service, and what follows from them for browsers."""

from datetime import UTC, datetime

import pytest
from starlette.datastructures import Headers
from starlette.responses import Response

from services.admin_api.access.browser import Cookies, Origins
from services.admin_api.access.problems import ForeignForm
from services.admin_api.settings import AdminApiSettings
from shared.runtime.settings import BadConfigurationError, load

GIVEN = {"database_url": "postgresql://x", "amqp_url": "amqp://x"}


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOST", "PORT", "PUBLIC_URL"):
        monkeypatch.delenv(f"EXPRESSYNC_ADMIN_API_{name}", raising=False)


def test_served_beyond_the_machine_it_needs_to_know_its_address() -> None:
    """Otherwise nothing tells whether cookies may be sent without encryption; the setting is named."""
    with pytest.raises(BadConfigurationError) as error:
        load(AdminApiSettings, **GIVEN, host="0.0.0.0")
    assert "EXPRESSYNC_ADMIN_API_PUBLIC_URL" in str(error.value)
    assert load(AdminApiSettings, **GIVEN, host="0.0.0.0", public_url="https://ex.example").secure
    assert not load(AdminApiSettings, **GIVEN).secure


@pytest.mark.parametrize(("secure", "name"), [(True, "__Host-expressync_session"), (False, "expressync_session")])
def test_over_https_the_cookie_is_secure_and_bound_to_the_host(*, secure: bool, name: str) -> None:
    """`__Host-` with Secure and Path=/: no subdomain can set it, and it never crosses the network in the clear."""
    response = Response()
    Cookies(secure=secure).give_session(response, "token", datetime(2030, 1, 1, tzinfo=UTC))
    given = next(value for value in response.headers.getlist("set-cookie") if value.startswith(f"{name}=token"))
    assert ("Secure" in given) is secure
    assert "Path=/" in given
    assert "Domain" not in given


@pytest.mark.parametrize(
    ("headers", "fine"),
    [
        ({"host": "ex.example", "origin": "https://ex.example"}, True),
        ({"host": "10.0.0.5:8090", "origin": "https://ex.example"}, True),
        ({"host": "10.0.0.5:8090", "origin": "http://10.0.0.5:8090"}, True),
        ({"host": "ex.example", "origin": "https://EX.example"}, True),
        ({"host": "ex.example"}, True),
        ({"host": "ex.example", "sec-fetch-site": "none"}, True),
        ({"host": "ex.example", "origin": "https://ex.example:444"}, False),
        ({"host": "ex.example", "origin": "https://ex.example.evil.example"}, False),
        ({"host": "ex.example", "origin": "null"}, False),
        ({"host": "ex.example", "origin": ""}, False),
        ({"host": "ex.example", "origin": "https://ex.example", "sec-fetch-site": "cross-site"}, False),
    ],
)
def test_a_form_comes_from_the_address_that_operators_open(headers: dict[str, str], *, fine: bool) -> None:
    """Also behind a proxy, where the host header is another one than the browser's."""
    origins = Origins("https://ex.example/")
    if fine:
        origins.check(Headers(headers))
        return
    with pytest.raises(ForeignForm):
        origins.check(Headers(headers))
