import pytest
from psycopg.conninfo import conninfo_to_dict

from deploy.local.environment import reached_at, role_url
from deploy.local.infra.errors import InfraError
from deploy.local.infra.external import external_postgres, external_rabbitmq, without_password
from shared.database.migrations import Owner

SECRET = "hunter2"


@pytest.mark.parametrize(
    "url",
    [f"postgresql//u:{SECRET}@h", f"postgresql://u:{SECRET}@h:port/x", f"mysql://u:{SECRET}@h/x", f"{SECRET}@h", ""],
)
def test_an_address_of_postgresql_that_is_none_is_refused_without_showing_it(url: str) -> None:
    """A typing error in the URL is told in three lines, and the password in it is not."""
    with pytest.raises(InfraError, match="address of PostgreSQL cannot be read") as raised:
        external_postgres(url)
    assert SECRET not in str(raised.value)
    assert "postgresql://user:password@host:5432/name" in raised.value.remedy


@pytest.mark.parametrize("url", [f"amqp:u:{SECRET}@h", f"amqp://u:{SECRET}@h:port/", f"http://u:{SECRET}@h/"])
def test_an_address_of_rabbitmq_that_is_none_is_refused_without_showing_it(url: str) -> None:
    """The same for RabbitMQ."""
    with pytest.raises(InfraError, match="address of RabbitMQ cannot be read") as raised:
        external_rabbitmq(url)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    ["postgresql://u:p@h:5432/x", "postgres://h/x", "postgresql+psycopg://u@h/x", "postgresql:///x?host=/run"],
)
def test_addresses_that_libpq_and_sqlalchemy_take_are_taken(url: str) -> None:
    """Both schemes, a driver's name, and a socket's folder instead of a host are fine."""
    assert external_postgres(url).url == url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"postgresql://u:{SECRET}@h:5432/x", "postgresql://u:***@h:5432/x"),
        (
            f"postgresql://h/x?user=u&password={SECRET}&sslmode=require",
            "postgresql://h/x?user=u&password=***&sslmode=require",
        ),
        (f"postgresql://u:{SECRET}@h:port/x", "an address that cannot be read"),
        (f"postgresql//u:{SECRET}@h", "an address that cannot be read"),
        (f"postgresql://u:p@{SECRET}@h/x", "postgresql://u:***@h/x"),
        (f"amqp://u:p@ss/{SECRET}@h/x", "an address that cannot be read"),
        (f"amqp://u:1234/{SECRET}@h/x", "an address that cannot be read"),
        (f"amqp://u:1234?{SECRET}@h/x", "an address that cannot be read"),
        (f"amqp://u:1234#{SECRET}@h/x", "an address that cannot be read"),
    ],
)
def test_an_address_is_shown_without_its_password(url: str, shown: str) -> None:
    """Wherever the password stands in it, and nothing at all where that cannot be told."""
    assert without_password(url) == shown


@pytest.mark.parametrize(
    "admin",
    [
        f"postgresql://postgres:{SECRET}@h:5432/x?sslmode=require",
        f"postgresql://h:5432/x?user=postgres&sslmode=require&password={SECRET}",
        f"postgresql://u@h:5432/x?sslmode=require&%75ser=postgres&passfile=/root/.pgpass&password={SECRET}",
    ],
)
def test_a_service_signs_in_as_its_own_role_wherever_the_address_names_the_administrator(admin: str) -> None:
    """Before the host, or in the query, which counts more: of who the administrator is, a service is told nothing."""
    url = role_url(admin, Owner("sync", schema="sync", role="expressync_sync", password="own/pass&word"))
    assert conninfo_to_dict(url) == {
        "user": "expressync_sync",
        "password": "own/pass&word",
        "host": "h",
        "port": "5432",
        "dbname": "x",
        "sslmode": "require",
    }


@pytest.mark.parametrize(
    ("host", "reached"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("::", "[::1]"),
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8::7", "[2001:db8::7]"),
    ],
)
def test_a_service_is_reached_where_it_listens(host: str, reached: str) -> None:
    """One that listens everywhere is reached on loopback, one on a single address only there."""
    assert reached_at(host) == reached
