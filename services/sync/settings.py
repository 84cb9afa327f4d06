import json
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from services.sync.runs.cadence import LONGEST_S
from services.sync.steve.client import SteveVersion
from shared.runtime.settings import ServiceSettings
from shared.web.client import sendable


class SyncSettings(ServiceSettings):
    """Sync speaks to SteVe's REST and to Lago; over HTTP it serves Lago's webhooks only."""

    model_config = SettingsConfigDict(env_prefix="EXPRESSYNC_SYNC_")

    port: int = Field(8092, ge=0, le=65535, description="Port of POST /webhooks/lago; 0 picks a free one")
    ops_port: int = Field(8192, ge=0, le=65535, description="Port of /healthz, /readyz and /metrics")

    steve_id: str = Field(
        pattern=r"^[A-Za-z0-9_-]{1,40}$",
        description="Names this SteVe database; a reinstalled SteVe is another one and needs another name",
    )
    steve_url: str = Field(pattern=r"^https?://", description="SteVe's address, without /steve/api, http or https")
    steve_user: str = Field("", description="SteVe's API user (HTTP Basic, SteVe 3.8 and later)")
    steve_password: SecretStr = Field(SecretStr(""), description="That user's password")
    steve_api_key: SecretStr = Field(SecretStr(""), description="STEVE-API-KEY of SteVe 3.6 and 3.7")
    steve_version: str = Field("3.12", description="SteVe's release, like 3.12: what its API can do depends on it")
    steve_timeout_s: float = Field(10.0, gt=0, le=120, description="Seconds to wait for SteVe's answer")

    lago_url: str = Field(pattern=r"^https?://", description="Lago's API address, without /api/v1")
    lago_api_key: SecretStr = Field(description="Lago's API key")
    lago_timeout_s: float = Field(10.0, gt=0, le=120, description="Seconds to wait for Lago's answer")
    lago_webhook_key: SecretStr = Field(
        SecretStr(""),
        description="Lago's HMAC keys for webhooks, separated by commas; several for a rotation. Empty: only its JWT"
        " signature is accepted, which a proxy in between may find too long for a header",
    )
    lago_webhook_issuer: str = Field(
        "",
        description="How Lago calls itself in a webhook's JWT (its LAGO_API_URL); empty: EXPRESSYNC_SYNC_LAGO_URL",
    )

    metric_code: str = Field("ev_charging_kwh", min_length=1, description="Code of the billable metric in Lago")
    metric_property: str = Field("kwh", min_length=1, description="The metric's field: kWh as a decimal string")

    poll_s: float = Field(
        2.0, gt=0, le=LONGEST_S, description="Seconds between two looks for new transactions in SteVe"
    )
    idle_poll_s: float = Field(10.0, gt=0, le=LONGEST_S, description="The same while nothing charges")
    dormant_poll_s: float = Field(20.0, gt=0, le=LONGEST_S, description="The same when nothing has charged for long")
    cards_every_s: float = Field(10.0, gt=0, le=3600, description="Seconds between two looks at SteVe's tags")
    sweep_every_s: float = Field(
        21_600.0, gt=0, description="Seconds between two full sweeps over all transactions that SteVe has"
    )
    page_size: int = Field(500, ge=1, le=500, description="Transactions to ask SteVe for at once")

    in_flight: int = Field(3, ge=1, le=4, description="Batches on their way to Lago at once")
    lago_requests_per_s: float = Field(100.0, gt=0, description="Most requests a second to Lago, of all kinds")
    subscription_age_s: float = Field(
        60.0, gt=0, description="Seconds for which Lago's answer about a subscription is believed"
    )
    late_policy: Literal["hold", "bill_in_current_period"] = Field(
        "hold", description="What to do with energy of a billing period that is over: hold or bill_in_current_period"
    )
    card_policy: Literal["observe", "enforce"] = Field(
        "observe", description="enforce blocks cards in SteVe that are unlinked or inactive; observe leaves SteVe alone"
    )
    connector_kw: int = Field(400, ge=1, description="The most that any connector can deliver, in kW")
    charger_kw: Annotated[dict[str, Annotated[int, Field(ge=1)]], NoDecode] = Field(
        {},
        description="Chargers whose connectors deliver another most than that, by their names in SteVe, in kW as JSON:"
        ' {"CP-7": 22}. What is more than a connector can deliver is held instead of billed',
    )
    open_hours: int = Field(48, ge=1, description="Hours after which a transaction that is still open is held")
    count_after_s: float = Field(
        2.0, ge=0, description="Seconds after which a delivered event is read back from Lago as counted"
    )

    reconcile_every_s: float = Field(
        21_600.0, gt=0, description="Seconds between two proofs that Lago counts what SteVe recorded, a subscription"
    )

    incremental_minutes: int = Field(
        0,
        ge=0,
        description="Bill running sessions every so many minutes; 0 bills at the end only. SteVe is asked about 200 of"
        " them a minute, in turn: with 1,000 running, each has its turn every five minutes",
    )
    incremental_kwh: int = Field(0, ge=0, description="Bill running sessions every so many kWh; 0: not by energy")

    @field_validator("charger_kw", mode="before")
    @classmethod
    def _is_json(cls, given: object) -> object:
        try:
            return json.loads(given) if isinstance(given, str) else given
        except ValueError as error:
            raise ValueError('it must be JSON, like {"CP-7": 22}') from error

    @field_validator("steve_api_key", "lago_api_key")
    @classmethod
    def _is_sendable(cls, key: SecretStr) -> SecretStr:
        if not sendable(key.get_secret_value()):
            raise ValueError("no header can carry it: is there a line break or a space at its end?")
        return key

    @field_validator("steve_version")
    @classmethod
    def _known_version(cls, text: str) -> str:
        SteveVersion.parse(text)
        return text

    @model_validator(mode="after")
    def _incremental_has_readings(self) -> "SyncSettings":
        if (self.incremental_minutes or self.incremental_kwh) and not SteveVersion.parse(
            self.steve_version
        ).has_details:
            raise ValueError(
                "running sessions are billed by SteVe's meter values, which its API has since 3.12: set"
                " EXPRESSYNC_SYNC_INCREMENTAL_MINUTES and EXPRESSYNC_SYNC_INCREMENTAL_KWH to 0, or upgrade SteVe and"
                " say so with EXPRESSYNC_SYNC_STEVE_VERSION"
            )
        return self

    @model_validator(mode="after")
    def _some_credentials(self) -> "SyncSettings":
        if not self.steve_user and not self.steve_api_key.get_secret_value():
            raise ValueError(
                "EXPRESSYNC_SYNC_STEVE_USER is not set (SteVe 3.8 and later; EXPRESSYNC_SYNC_STEVE_API_KEY before)"
            )
        return self
