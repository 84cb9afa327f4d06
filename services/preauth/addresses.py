"""Where somebody comes from."""

import ipaddress
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

SITE_BITS: Final = 64
"""What one customer of a provider has at least (RFC 6177): within it, another IPv6 address costs nothing."""


def parse_address(text: str) -> Address | None:
    """The address, or None where it is none. A socket for both kinds names an IPv4 peer as an IPv6 one: unwrapped."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def counted(address: Address) -> str:
    """A source, where something is allowed to each: an IPv4 address, or the /64 of an IPv6 address."""
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.IPv6Network((int(address), SITE_BITS), strict=False))
