"""Cards a charger knows without asking: the cache and the local list (OCPP 1.6, 3.5)."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from deploy.demo.chargers.configuration import Configuration


@dataclass(frozen=True)
class CardInfo:
    status: str
    expires_at: datetime | None = None
    parent_id_tag: str | None = None

    @classmethod
    def of(cls, id_tag_info: dict[str, Any]) -> "CardInfo":
        expiry = id_tag_info.get("expiry_date")
        expires_at = None if expiry is None else datetime.fromisoformat(expiry)
        return cls(str(id_tag_info["status"]), expires_at, id_tag_info.get("parent_id_tag"))


class Cards:
    def __init__(self, configuration: Configuration, clock: Callable[[], datetime]) -> None:
        self._configuration = configuration
        self._clock = clock
        self._cache: dict[str, CardInfo] = {}
        self._list: dict[str, CardInfo] = {}
        self.list_version = 0

    def learn(self, id_tag: str, id_tag_info: dict[str, Any]) -> str:
        """Remember what the central system said of a card; its status."""
        info = CardInfo.of(id_tag_info)
        self._cache[_key(id_tag)] = info
        return info.status

    def clear_cache(self) -> None:
        self._cache.clear()

    def update_list(self, version: int, entries: list[dict[str, Any]], *, full: bool) -> None:
        """SendLocalList; an entry without idTagInfo removes the card."""
        if full:
            self._list.clear()
        for entry in entries:
            info = entry.get("id_tag_info")
            if info is None:
                self._list.pop(_key(entry["id_tag"]), None)
            else:
                self._list[_key(entry["id_tag"])] = CardInfo.of(info)
        self.list_version = version

    def known(self, id_tag: str) -> str | None:
        """What list or cache say; None when they are switched off, silent or out of date."""
        info = None
        if self._configuration.is_on("LocalAuthListEnabled"):
            info = self._list.get(_key(id_tag))
        if info is None and self._configuration.is_on("AuthorizationCacheEnabled"):
            info = self._cache.get(_key(id_tag))
        if info is None or (info.expires_at is not None and info.expires_at <= self._clock()):
            return None
        return info.status

    def parent(self, id_tag: str) -> str | None:
        """The parent that was told with the card, whether or not the card may be taken from memory."""
        info = self._list.get(_key(id_tag)) or self._cache.get(_key(id_tag))
        return None if info is None else info.parent_id_tag

    def may_start_unasked(self, id_tag: str) -> bool:
        """LocalPreAuthorize (OCPP 1.6, 9.1.15): start on what is known, without an Authorize."""
        return self._configuration.is_on("LocalPreAuthorize") and self.known(id_tag) == "Accepted"

    def refused(self, id_tag: str) -> str | None:
        """What is known of a card, where that is not Accepted."""
        known = self.known(id_tag)
        return None if known == "Accepted" else known

    def may_start_offline(self, id_tag: str) -> bool:
        """LocalAuthorizeOffline and AllowOfflineTxForUnknownId (OCPP 1.6, 3.5.3)."""
        known = self.known(id_tag) if self._configuration.is_on("LocalAuthorizeOffline") else None
        return known == "Accepted" or (known is None and self._configuration.is_on("AllowOfflineTxForUnknownId"))


def _key(id_tag: str) -> str:
    return id_tag.strip().upper()
