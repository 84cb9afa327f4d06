"""Another application that asks who logged in, and a preauth that knows it."""

import base64
import hashlib
import json
from typing import Any

from joserfc.jwk import ECKey

OLD_KEY, NEW_KEY = ECKey.generate_key("P-256"), ECKey.generate_key("P-256")
CALLBACK = "https://app.example/callback"
VERIFIER = "v" * 50
CLIENT = {
    "client_id": "app",
    "redirect_uri": CALLBACK,
    "code_challenge": base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode(),
    "state": "s&1",
}


def pem(*keys: ECKey) -> str:
    return "\n".join(key.as_pem(private=True).decode() for key in keys)


def settings_with(*keys: ECKey) -> dict[str, Any]:
    return {"cooldown_s": 0, "audiences": json.dumps({"app": [CALLBACK]}), "token_keys": pem(*keys)}
