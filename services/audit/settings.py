from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.runtime.settings import ServiceSettings


class AuditSettings(ServiceSettings):
    """Audit serves nobody over HTTP; its port is unused and has a default only for uniformity."""

    model_config = SettingsConfigDict(env_prefix="EXPRESSYNC_AUDIT_")

    port: int = Field(0, ge=0, le=0, description="audit has no public port")
    ops_port: int = Field(8193, ge=0, le=65535, description="Port of /healthz, /readyz and /metrics")
