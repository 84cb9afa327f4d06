"""`make setup`, last step: what the launcher needs beyond Python packages, fetched before it is needed."""

from deploy.local.home import Home
from deploy.local.infra.broker import provide_broker
from deploy.local.infra.errors import InfraError
from deploy.local.infra.postgres import binaries


def main() -> None:
    """Check PostgreSQL's wheel and find or unpack a RabbitMQ. A missing broker is said, and does not end the set-up."""
    print(f"PostgreSQL: {binaries()}")
    home = Home.of("demo")
    try:
        print(f"RabbitMQ: {provide_broker(home.folder / 'rabbitmq', home.packages).source}")
    except InfraError as error:
        print(error)


if __name__ == "__main__":
    main()
