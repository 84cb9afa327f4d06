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


@pytest.mark.parametrize("value", ["s3cret\n", "s3cret ", "s3\r\ncret", "s3cr\x00et", "s3crét", "\ts3cret"])
def test_a_header_that_cannot_be_sent_is_refused_without_its_value(value: str) -> None:
    """A key with the line break of the file that it came from: the libraries would repeat it in their words."""
    with pytest.raises(client.UnsendableHeaderError) as caught:
        client.http_client("http://h", headers={"STEVE-API-KEY": value})
    assert str(caught.value) == "what STEVE-API-KEY is to say cannot be part of a header"
