"""Signed tokens for other applications: a code is exchanged once, the token lives five minutes (RFC 6749, RFC 7636)."""

import base64
import hashlib
import hmac
import json
import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlencode
from uuid import UUID

from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

from services.preauth.login import store
from services.preauth.pairing.secrets import digest, new_secret
from shared.contracts.problem import Problem
from shared.database.engine import Database
from shared.runtime.clock import Clock, NewId

CODE_VALID: Final = timedelta(seconds=60)
_END: Final = "-----END PRIVATE KEY-----"

ALGORITHM: Final = "ES256"
_CHALLENGE: Final = re.compile("[A-Za-z0-9_-]{43}")  # RFC 7636, 4.2: a SHA-256 in base64url, without padding


class TokenError(Problem):
    """RFC 6749, 5.2: `code` is the error's name there."""

    status, title = 400, "No token for this"

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail, error=code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Client:
    """An application that wants to know who logged in: checked against the configured ones."""

    audience: str
    redirect_uri: str
    code_challenge: str
    state: str = ""


@dataclass(slots=True)
class Tokens:
    """`audiences` maps an application to its exact redirect addresses. The first of `keys` signs."""

    database: Database
    clock: Clock
    new_id: NewId
    issuer: str
    audiences: dict[str, list[str]]
    keys: list[ECKey]
    valid_s: int
    _public: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self._public = dict(KeySet(list(self.keys)).as_dict(private=False)) if self.keys else {"keys": []}

    def jwks(self) -> dict[str, Any]:
        """RFC 7517."""
        return self._public

    def check(self, client: Client) -> None:
        """:raises TokenError: for an application, an address or a challenge that is not as configured."""
        if not self.keys:
            raise TokenError("unsupported_response_type", "Tokens are not set up here (EXPRESSYNC_PREAUTH_TOKEN_KEYS).")
        if client.redirect_uri not in self.audiences.get(client.audience, []):
            raise TokenError("invalid_request", "This application, or this redirect address, is not configured here.")
        if not _CHALLENGE.fullmatch(client.code_challenge):
            raise TokenError("invalid_request", "A code_challenge (S256) is needed.")

    async def code(self, session_id: UUID, client: Client) -> str:
        """A code for the application, good for one minute and one exchange.

        :raises TokenError: see `check`.
        """
        self.check(client)
        code = new_secret()
        async with self.database.write() as tx:
            await store.add_code(
                tx,
                {
                    "code_hash": digest(code),
                    "session_id": session_id,
                    "audience": client.audience,
                    "redirect_uri": client.redirect_uri,
                    "code_challenge": client.code_challenge,
                    "expires_at": self.clock() + CODE_VALID,
                },
            )
        return code

    async def onward(self, session_id: UUID, client: Client) -> str:
        """The application's address, with a code for it (RFC 6749, 4.1.2).

        :raises TokenError: see `check`.
        """
        given = {"code": await self.code(session_id, client), "state": client.state}
        joint = "&" if "?" in client.redirect_uri else "?"
        return f"{client.redirect_uri}{joint}{urlencode({name: value for name, value in given.items() if value})}"

    async def exchange(self, code: str, *, audience: str, redirect_uri: str, code_verifier: str) -> str:
        """The signed token for a code.

        :raises TokenError: invalid_grant for anything that does not fit; the code is used up all the same.
        """
        challenge = base64.urlsafe_b64encode(hashlib.sha256(code_verifier.encode()).digest()).rstrip(b"=").decode()
        async with self.database.write() as tx:
            row = await store.use_code(tx, digest(code), at=self.clock())
            session = await store.living_session(tx, row.session_id) if row is not None else None
        fits = (
            row is not None
            and row.audience == audience
            and row.redirect_uri == redirect_uri
            and hmac.compare_digest(row.code_challenge, challenge)
        )
        if not fits or session is None or session.card_id is None:
            raise TokenError("invalid_grant", "This code is wrong, used, too old, or was made for somebody else.")
        return self._sign(str(session.card_id), audience, str(session.session_id))

    def _sign(self, subject: str, audience: str, session: str) -> str:
        key, now = self.keys[0], int(self.clock().timestamp())
        claims = {
            "iss": self.issuer,
            "sub": subject,
            "aud": audience,
            "iat": now,
            "nbf": now,
            "exp": now + self.valid_s,
            "jti": str(self.new_id()),
            "sid": session,
            "amr": ["card"],
        }
        header = {"alg": ALGORITHM, "typ": "JWT", "kid": key.kid}
        return jwt.encode(header, claims, key, algorithms=[ALGORITHM])


def parse_keys(text: str) -> list[ECKey]:
    """Private keys, one PEM block after another; each is named by its thumbprint (RFC 7638).

    :raises ValueError: for a block that is no EC P-256 key.
    """
    keys = []
    for block in (part.strip() for part in text.replace("\\n", "\n").split(_END)):
        if not block:
            continue
        try:
            key = ECKey.import_key(f"{block}\n{_END}\n")
        except Exception as error:
            raise ValueError("a token key is no private key in PEM (PKCS#8)") from error
        if key.curve_name != "P-256" or not key.is_private:
            raise ValueError("a token key is no private EC P-256 key")
        key.ensure_kid()
        keys.append(key)
    return keys


def parse_audiences(text: str) -> dict[str, list[str]]:
    """:raises ValueError: when it is not an object of lists of addresses."""
    found = json.loads(text or "{}")
    if not isinstance(found, dict) or not all(
        isinstance(uris, list) and all(isinstance(uri, str) and "://" in uri for uri in uris) for uris in found.values()
    ):
        raise ValueError('audiences must look like {"app": ["https://app.example/callback"]}')
    return found
