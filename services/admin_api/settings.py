from typing import Self

from pydantic import Field, HttpUrl, model_validator
from pydantic_settings import SettingsConfigDict

from shared.runtime.settings import ServiceSettings

_LOOPBACK = {"127.0.0.1", "::1", "localhost"}


class AdminApiSettings(ServiceSettings):
    """The operators' console, API and sign-in."""

    model_config = SettingsConfigDict(env_prefix="EXPRESSYNC_ADMIN_API_")

    port: int = Field(8090, ge=0, le=65535, description="Port of the console and of /api/v1; 0 picks a free one")
    ops_port: int = Field(8190, ge=0, le=65535, description="Port of /healthz, /readyz and /metrics")
    public_url: HttpUrl | None = Field(
        None,
        description="Address operators open in their browsers, such as https://expressync.example.com; required "
        "when it is served beyond this machine, so that cookies and forms are bound to it",
    )
    session_idle_minutes: int = Field(120, ge=5, le=1440, description="A browser unused for so long is signed out")
    session_hours: int = Field(12, ge=1, le=168, description="A browser is signed out so long after its sign-in")
    cli_session_days: int = Field(30, ge=1, le=365, description="How long `expressync login` is good for")
    one_time_password_hours: int = Field(72, ge=1, le=720, description="How long a one-time password can be used")
    ask_deadline_s: float = Field(4.0, gt=0, le=30, description="Seconds to wait for a service that is asked")
    change_deadline_s: float = Field(10.0, gt=0, le=60, description="Seconds to wait for a change to be made")

    @model_validator(mode="after")
    def _public_needs_an_address(self) -> Self:
        if self.host not in _LOOPBACK and self.public_url is None:
            raise ValueError(
                "EXPRESSYNC_ADMIN_API_PUBLIC_URL is not set; it is needed because EXPRESSYNC_ADMIN_API_HOST is "
                f"{self.host}, which others can reach"
            )
        return self

    @property
    def secure(self) -> bool:
        """Whether browsers come over HTTPS."""
        return self.public_url is not None and self.public_url.scheme == "https"
