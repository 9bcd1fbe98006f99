"""A small identity provider on loopback, over TLS, with real tokens: the other side of OIDC."""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import ECKey

from hub_server import tls

CLIENT, SECRET, SUBJECT = "the-hub", "a secret of the client", "person-0042"


@dataclass
class Provider:
    """Logs everybody in as `SUBJECT`; ``spoil`` changes a token before it is signed."""

    folder: Path
    spoil: Callable[[dict[str, Any]], None] = lambda _: None
    signer: ECKey | None = None
    """Signs tokens in place of the key that is published."""
    redeemed: list[str] = field(default_factory=list)
    _codes: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.certificate = self.folder / "provider.crt"
        tls.write_certificate(self.certificate, self.folder / "provider.key", "https://localhost")
        self.key = ECKey.generate_key("P-256", {"kid": "one", "use": "sig", "alg": "ES256"})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.folder / "provider.key")
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.issuer = f"https://localhost:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()

    def log_in(self, address: str) -> str:
        """What a browser does at the provider; the address that it is sent back to."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        assert (asked["response_type"], asked["client_id"]) == ("code", CLIENT)
        assert asked["code_challenge_method"] == "S256"
        code = f"code-{len(self._codes)}"
        self._codes[code] = asked
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"

    def answer(self, path: str, form: dict[str, str], authorization: str) -> Any:
        """The document at ``path``."""
        if path == "/.well-known/openid-configuration":
            return {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/keys",
                "id_token_signing_alg_values_supported": ["ES256"],
            }
        if path == "/keys":
            return {"keys": [self.key.as_dict(private=False)]}
        return self._token(form, authorization)

    def _token(self, form: dict[str, str], authorization: str) -> dict[str, Any]:
        asked = self._codes.pop(form["code"])
        verifier = hashlib.sha256(form["code_verifier"].encode()).digest()
        assert base64.urlsafe_b64encode(verifier).decode().rstrip("=") == asked["code_challenge"]
        client = base64.b64decode(authorization.removeprefix("Basic ")).decode()
        assert client == f"{CLIENT}:{SECRET}"
        self.redeemed.append(form["code"])
        now = int(time.time())
        claims = {
            "iss": self.issuer, "sub": SUBJECT, "aud": CLIENT, "iat": now, "exp": now + 300,
            "nonce": asked["nonce"],
        }  # fmt: skip
        self.spoil(claims)
        token = jwt.encode({"alg": "ES256", "kid": "one"}, claims, self.signer or self.key)
        return {"access_token": "unused", "token_type": "Bearer", "id_token": token}

    def _handler(provider) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer({})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                self._answer({name: values[0] for name, values in parse_qs(body).items()})

            def _answer(self, form: dict[str, str]) -> None:
                authorization = self.headers.get("Authorization", "")
                document = provider.answer(self.path, form, authorization)
                body = json.dumps(document).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                """Quiet."""

        return Handler
