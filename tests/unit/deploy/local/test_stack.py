from pathlib import Path

from deploy.local.home import SERVICES, Home
from deploy.local.stack import DEFAULT_OPS_PORTS, DEFAULT_PORTS, Stack


def stack(tmp_path: Path, **given: str) -> Stack:
    made = Stack(Home(tmp_path, "live"), {"EXPRESSYNC_AMQP_URL": "amqp://h/", **given}, lambda _line: None)
    made.choose_ports()
    return made


def test_services_have_their_default_ports_unless_others_are_given(tmp_path: Path) -> None:
    """A given port stands; what is not given has the documented default."""
    made = stack(tmp_path, EXPRESSYNC_SYNC_OPS_PORT="18192")
    assert made.port("sync", "OPS_PORT") == 18192
    assert made.port("sync") == DEFAULT_PORTS["sync"]
    assert made.port("audit", "OPS_PORT") == DEFAULT_OPS_PORTS["audit"]


def test_a_port_of_0_becomes_one_that_the_launcher_knows(tmp_path: Path) -> None:
    """0 means any free one; the launcher must know which, to ask whether the service is ready."""
    given = {f"EXPRESSYNC_{service.upper()}_OPS_PORT": "0" for service in SERVICES}
    made = stack(tmp_path, **given)
    chosen = {made.port(service, "OPS_PORT") for service in SERVICES}
    assert len(chosen) == len(SERVICES)
    assert 0 not in chosen
    assert made.environment.of("sync")["EXPRESSYNC_SYNC_OPS_PORT"] == str(made.port("sync", "OPS_PORT"))
    assert given["EXPRESSYNC_SYNC_OPS_PORT"] == "0"


def test_a_service_is_asked_where_it_listens(tmp_path: Path) -> None:
    """A service bound to one address does not answer on loopback."""
    made = stack(tmp_path, EXPRESSYNC_SYNC_HOST="192.0.2.7", EXPRESSYNC_PREAUTH_HOST="0.0.0.0")
    assert [made.host(service) for service in ("sync", "preauth", "audit")] == ["192.0.2.7", "127.0.0.1", "127.0.0.1"]


def test_to_open_a_service_opens_none_of_its_insides(tmp_path: Path) -> None:
    """Who lets chargers in does not let them read the metrics: the ops port has an address of its own."""
    made = stack(tmp_path, EXPRESSYNC_PREAUTH_HOST="192.0.2.7", EXPRESSYNC_SYNC_OPS_HOST="192.0.2.8")
    assert made.host("preauth", "OPS_HOST") == "127.0.0.1"
    assert made.host("sync", "OPS_HOST") == "192.0.2.8"
