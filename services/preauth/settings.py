from pathlib import Path
from typing import Final, Self

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from services.preauth.decision.signature import parse_keys as parse_hook_keys
from services.preauth.gateway.settings import GatewaySettings
from services.preauth.login.browser import parse_proxies
from services.preauth.login.tokens import parse_audiences
from services.preauth.login.tokens import parse_keys as parse_token_keys

SERVED: Final = frozenset({"hook", "gateway", "pages", "work"})
WORK_NICENESS: Final = 10


def _parts(text: str) -> set[str]:
    return {part.strip() for part in text.split(",") if part.strip()}


class PreauthSettings(GatewaySettings):
    model_config = SettingsConfigDict(env_prefix="EXPRESSYNC_PREAUTH_")

    port: int = Field(8091, ge=0, le=65535, description="Port of the hook and the driver pages")
    ops_port: int = Field(8191, ge=0, le=65535, description="Port of /healthz, /readyz and /metrics")

    serve: str = Field(
        "hook,gateway,pages,work",
        description="What this process does: hook, gateway, pages, and work (events, requests, what is periodic), or"
        " some of them, separated by commas. Processes of their own keep out of each other's way; one must do the work",
    )
    hook_keys: SecretStr = Field(
        SecretStr(""),
        description="Keys the patched SteVe may sign its hook calls with, separated by commas; several for a rotation."
        " Empty: every call is refused, and every tap passes",
    )
    decide_within_ms: int = Field(
        50, ge=5, le=5000, description="A tap that the database has not decided within this many milliseconds passes"
    )
    answer_within_ms: int = Field(
        120,
        ge=10,
        le=5000,
        description="Blocked is told only within this many milliseconds of the call; SteVe itself waits 200",
    )
    breaker_after_ms: int = Field(
        150, ge=20, le=5000, description="A database that has been silent this long is not waited for again"
    )
    fresh_s: int = Field(300, ge=30, le=3600, description="A hook call whose ts is further off than this is stale")
    repeat_s: int = Field(
        10,
        ge=0,
        le=60,
        description="Seconds during which the card of a scan is answered Blocked again; then it charges",
    )
    spool_dir: Path = Field(
        Path(".local/preauth/spool"),
        description="Folder for taps that the database could not take; each process has its own file there",
    )
    spool_max_mb: int = Field(64, ge=1, le=4096, description="Size of the spool; what exceeds it is counted as a gap")
    session_within_s: int = Field(
        300,
        ge=30,
        le=3600,
        description="Seconds that a driver may need between the card and the plug: a session that begins later after a"
        " tap is not the tap's",
    )
    journal_kept_days: int = Field(
        400,
        ge=8,
        le=36500,
        description="Days a tap is kept, and the scan that it was taken for; taps go a whole month at a time",
    )
    logins_kept_days: int = Field(90, ge=1, le=36500, description="Days a driver's session is kept after its end")
    devices_kept_days: int = Field(
        400,
        ge=1,
        le=36500,
        description="Days after which a browser or kiosk that a card did not use is new to it again, and one that was"
        " bound to the card is no longer",
    )

    public_url: str = Field(
        "http://127.0.0.1:8091",
        pattern=r"^https?://[^/]+$",
        description="Where drivers reach the pages, without a slash at the end; printed in QR codes, issuer of tokens",
    )
    trusted_proxies: str = Field(
        "",
        description="Addresses or networks of proxies, separated by commas, whose X-Forwarded-For names the driver's"
        " address",
    )
    qr_is_strong: bool = Field(
        False,
        description="Let any card log in after a QR code. A photo of the code then takes the next card's login",
    )
    driver_idle_s: int = Field(180, ge=10, le=3600, description="Seconds without a request after which a driver is out")
    driver_longest_s: int = Field(1800, ge=60, le=86400, description="Seconds after which a driver is out in any case")
    cooldown_s: int = Field(5, ge=0, le=600, description="Seconds between a scan at a charger and the next one there")
    scans_per_charger: int = Field(20, ge=1, description="Scans that drivers may start at a charger in ten minutes")
    scans_per_kiosk: int = Field(60, ge=1, description="Scans that may be started at a kiosk in ten minutes")
    scans_per_source: int = Field(10, ge=1, description="Scans by QR code from an address in ten minutes")
    audiences: str = Field(
        "{}",
        description="Applications that may ask for a driver's token, with their exact redirect addresses, as JSON:"
        ' {"app": ["https://app.example/callback"]}',
    )
    token_keys: SecretStr = Field(
        SecretStr(""),
        description="Private EC P-256 keys for tokens as PEM; the first one signs, the others are published"
        " for a rotation. Empty: no tokens",
    )
    stop_ignored: bool = Field(
        False,
        description="Stop, through SteVe, a session that began although its card was told Blocked",
    )
    token_valid_s: int = Field(300, ge=30, le=300, description="Seconds a token is valid")

    @field_validator("serve")
    @classmethod
    def _are_parts(cls, text: str) -> str:
        unknown = _parts(text) - SERVED
        if unknown or not _parts(text):
            raise ValueError(f"{text!r} is not made of hook, gateway, pages and work")
        return text

    def served(self) -> frozenset[str]:
        """Which of hook, gateway, pages and work this process does."""
        return frozenset(_parts(self.serve))

    def niceness(self) -> int:
        """Taps come first: whoever relays their events gets what they leave."""
        return WORK_NICENESS if self.served() == {"work"} else 0

    @field_validator("hook_keys", "token_keys", mode="after")
    @classmethod
    def _are_keys(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        parse = parse_hook_keys if info.field_name == "hook_keys" else parse_token_keys
        parse(value.get_secret_value())
        return value

    @field_validator("audiences")
    @classmethod
    def _are_audiences(cls, text: str) -> str:
        parse_audiences(text)
        return text

    @field_validator("trusted_proxies")
    @classmethod
    def _are_addresses(cls, text: str) -> str:
        parse_proxies(text)
        return text

    @model_validator(mode="after")
    def _decides_before_it_answers(self) -> Self:
        if self.decide_within_ms > self.answer_within_ms:
            raise ValueError(
                f"EXPRESSYNC_PREAUTH_DECIDE_WITHIN_MS ({self.decide_within_ms}) must not be more than"
                f" EXPRESSYNC_PREAUTH_ANSWER_WITHIN_MS ({self.answer_within_ms})"
            )
        return self
