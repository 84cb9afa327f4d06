from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from services.preauth.gateway.settings import GatewaySettings


class PreauthSettings(GatewaySettings):
    model_config = SettingsConfigDict(env_prefix="EXPRESSYNC_PREAUTH_")

    port: int = Field(8091, ge=0, le=65535, description="Port of the hook and the driver pages")
    ops_port: int = Field(8191, ge=0, le=65535, description="Port of /healthz, /readyz and /metrics")

    hook_keys: SecretStr = Field(
        SecretStr(""),
        description="Keys the patched SteVe may sign its hook calls with, separated by commas; several for a rotation."
        " Empty: every call is refused, and every tap passes",
    )
    decide_within_ms: int = Field(
        50, ge=5, le=150, description="A tap that the database has not decided within this many milliseconds passes"
    )
    answer_within_ms: int = Field(
        120,
        ge=10,
        le=180,
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
    journal_kept_days: int = Field(
        400, ge=1, le=36500, description="Days a tap is kept; older ones go a whole month at a time"
    )
