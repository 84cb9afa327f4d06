import ssl
from pathlib import Path

import certifi
import pytest

from shared.web import client


def test_a_private_authority_of_this_machine_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SteVe and Lago may stand behind a company's own authority; SSL_CERT_FILE names it, public ones stay trusted."""
    public = len(ssl.create_default_context(cafile=certifi.where()).get_ca_certs())
    first = Path(certifi.where()).read_text().split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
    # An authority that the public list has already would not count twice, so the list here is made shorter.
    shorter = tmp_path / "public.pem"
    shorter.write_text(Path(certifi.where()).read_text().replace(first, "", 1))
    private = tmp_path / "private.pem"
    private.write_text(first)
    monkeypatch.setattr(certifi, "where", lambda: str(shorter))
    monkeypatch.setenv("SSL_CERT_FILE", str(private))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    client._trust.cache_clear()
    try:
        assert len(client._trust().get_ca_certs()) == public
    finally:
        client._trust.cache_clear()
