"""What of a handshake is passed on, to SteVe and back."""

import ipaddress
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from services.preauth.gateway import handshake
from services.preauth.gateway.handshake import Refusal, Route, Upstream


@given(st.text(min_size=1, max_size=50).filter(lambda name: name not in (".", "..") and "\x00" not in name))
def test_any_id_passes_as_it_was_encoded(charge_box_id: str) -> None:
    """Any encoded id is read, and stands in SteVe's address exactly as it stood in ours."""
    try:
        raw = quote(charge_box_id, safe="")
    except UnicodeEncodeError:
        return
    route = handshake.route(f"/ocpp/{raw}")
    assert route == Route(raw, charge_box_id)
    assert isinstance(route, Route)
    uri = Upstream.parse("ws://steve:8180/steve/websocket/CentralSystemService/").uri(route)
    assert uri.resource_name == f"/steve/websocket/CentralSystemService/{raw}"


@given(st.text(max_size=60))
def test_no_path_leads_out_of_the_endpoint(path: str) -> None:
    """Whatever stands behind /ocpp/, SteVe is asked below its endpoint, in one line, or not at all."""
    route = handshake.route(f"/ocpp/{path}")
    if isinstance(route, Refusal):
        return
    name = Upstream.parse("ws://steve/s").uri(route).resource_name
    assert name == f"/s/{path}"
    assert "/" not in path.partition("?")[0]
    assert unquote(path.partition("?")[0]) not in ("", ".", "..")
    assert all("\x21" <= character <= "\x7e" for character in path)


@pytest.mark.parametrize("path", ["/", "/ocpp", "/OCPP/CP-1", "/x/ocpp/CP-1", "/steve/websocket/x"])
def test_other_paths_are_not_found(path: str) -> None:
    """The gateway serves chargers, and nothing else."""
    refusal = handshake.route(path)
    assert isinstance(refusal, Refusal)
    assert refusal.status == 404


@pytest.mark.parametrize(
    ("url", "secure", "port"),
    [("ws://steve/x", False, 80), ("wss://steve/x", True, 443), ("ws://steve:8180/x/", False, 8180)],
)
def test_upstream_is_read_from_its_address(url: str, secure: bool, port: int) -> None:  # noqa: FBT001 - a table
    """Scheme, host, port and path of SteVe's endpoint."""
    assert Upstream.parse(url) == Upstream(secure, "steve", port, "/x")


@pytest.mark.parametrize("url", ["http://steve/x", "ws:///x", "steve:8180", "ws://u:p@steve/x", "ws://steve/x?y=1", ""])
def test_wrong_upstream_is_refused_in_words(url: str) -> None:
    """An address that cannot be SteVe's endpoint is a configuration error that says what is expected."""
    with pytest.raises(ValueError, match=r"ws://HOST|no query"):
        Upstream.parse(url)


def test_only_what_concerns_steve_is_passed_on() -> None:
    """Credentials and subprotocols pass, in order and as often as they came; cookies and hop headers do not."""
    asked = Request(
        "/ocpp/CP",
        Headers(
            [
                ("Authorization", "Basic x"),
                ("Sec-WebSocket-Protocol", "b, a"),
                ("Sec-WebSocket-Protocol", "c"),
                ("User-Agent", "Box/1"),
                ("Cookie", "secret"),
                ("Sec-WebSocket-Extensions", "permessage-deflate"),
                ("X-Forwarded-For", "1.2.3.4"),
            ]
        ),
    )
    to = Request("/x", Headers([("Host", "steve"), ("Sec-WebSocket-Protocol", "b, a, c")]))
    handshake.to_steve(asked, to, "203.0.113.9")
    assert list(to.headers.raw_items()) == [
        ("Host", "steve"),
        ("Authorization", "Basic x"),
        ("User-Agent", "Box/1"),
        ("Sec-WebSocket-Protocol", "b, a"),
        ("Sec-WebSocket-Protocol", "c"),
        ("X-Forwarded-For", "203.0.113.9"),
    ]


@pytest.mark.parametrize(
    ("answered", "status"), [(400, 400), (401, 401), (404, 404), (503, 503), (302, 502), (200, 502)]
)
def test_refusal_is_mirrored_and_nonsense_is_a_bad_gateway(answered: int, status: int) -> None:
    """SteVe's errors pass with its challenge; a redirect or a page is a fault upstream, not the charger's."""
    headers = Headers({"WWW-Authenticate": "Basic", "Location": "/login", "Set-Cookie": "x"})
    response = handshake.refusal(Response(answered, "Reason", headers, b"x" * 10_000))
    assert response.status_code == status
    assert "Location" not in response.headers
    assert "Set-Cookie" not in response.headers
    assert int(response.headers["Content-Length"]) == len(response.body) <= 4096
    if status == answered:
        assert response.headers["WWW-Authenticate"] == "Basic"


PROXIES = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("198.51.100.7", "1.2.3.4", "198.51.100.7"),
        ("10.0.0.1", "1.2.3.4", "1.2.3.4"),
        ("10.0.0.1", "6.6.6.6, 1.2.3.4", "1.2.3.4"),
        ("10.0.0.1", "1.2.3.4, 10.9.9.9", "1.2.3.4"),
        ("10.0.0.1", "10.1.1.1", "10.1.1.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "evil", "10.0.0.1"),
        ("fd00::1", "2001:db8::5", "2001:db8::5"),
        ("::ffff:10.0.0.1", "1.2.3.4", "1.2.3.4"),
        ("::ffff:198.51.100.7", "1.2.3.4", "198.51.100.7"),
        ("10.0.0.1", "1.2.3.4, ::ffff:10.9.9.9", "1.2.3.4"),
    ],
)
def test_forwarded_addresses_are_believed_from_proxies_only(peer: str, forwarded: str, client: str) -> None:
    """The client is the last address that a configured proxy saw; what stands before it anybody could have written."""
    headers = Headers([("X-Forwarded-For", forwarded)]) if forwarded else Headers()
    assert handshake.client_address(peer, headers, PROXIES) == client
