import pytest

from deploy.demo.chargers.configuration import Configuration


@pytest.mark.parametrize(
    ("key", "value", "status"),
    [
        ("LocalPreAuthorize", "true", "Accepted"),
        ("AuthorizeRemoteTxRequests", "false", "Rejected"),
        ("HeartbeatInterval", "often", "Rejected"),
        ("NoSuchKey", "1", "NotSupported"),
    ],
)
def test_changing_a_key(key: str, value: str, status: str) -> None:
    """Known and writable keys change; read-only ones and wrong values are rejected, others not supported."""
    configuration = Configuration(2)
    before = configuration.read([key])
    assert configuration.change(key, value) == status
    assert (configuration.read([key]) == before) == (status != "Accepted")


def test_reading_keys() -> None:
    """No names means all; unknown names are told apart."""
    configuration = Configuration(3, {"AuthorizeRemoteTxRequests": "false"})
    known, unknown = configuration.read(["AuthorizeRemoteTxRequests", "NumberOfConnectors", "Nope"])
    assert known == [
        {"key": "AuthorizeRemoteTxRequests", "readonly": True, "value": "false"},
        {"key": "NumberOfConnectors", "readonly": True, "value": "3"},
    ]
    assert unknown == ["Nope"]
    assert len(configuration.read([])[0]) > 10
