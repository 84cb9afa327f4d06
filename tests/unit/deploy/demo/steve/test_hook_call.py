from deploy.demo.steve.hook import signature


def test_the_signature_is_lowercase_hex_hmac_sha256() -> None:
    """Test case 2 of RFC 4231."""
    assert signature("Jefe", b"what do ya want for nothing?") == (
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    )
