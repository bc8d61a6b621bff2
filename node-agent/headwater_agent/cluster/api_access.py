# SPDX-License-Identifier: Apache-2.0
"""Where the API server is and how it knows us: from the pod's mounts, or from a kubeconfig.

Why: the token of a pod lives an hour and is replaced in its file; the authority's certificate may
be, too. Both are read again when they can have changed, so an agent runs for months. A kubeconfig
is for tests and for a look from outside; it is read once and may not run programs.
Called by `main`; :mod:`.api` asks for a token with every request.
"""

import base64
import binascii
import os
import ssl
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")

TOKEN_REREAD_S: Final = 60.0
"""A token's file is read again after this long; it is replaced at four fifths of its life, and the
shortest life that the API server grants is ten minutes."""


class AccessError(Exception):
    """It is not known how to reach the API server; the message says what to do."""


class TokenFile:
    """A bearer token that somebody replaces in its file."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._text = ""
        self._read_at = 0.0

    def __call__(self) -> str:
        """Return the token.

        Raises:
            OSError: the file cannot be read, and never could.
        """
        now = self._clock()
        if not self._text or now - self._read_at >= TOKEN_REREAD_S:
            try:
                self._text = self._path.read_text(encoding="ascii").strip()
            except OSError:
                if not self._text:
                    raise
            self._read_at = now
        return self._text

    def expire(self) -> None:
        """The server refused it: read the file before the next request."""
        self._read_at = self._clock() - TOKEN_REREAD_S


@dataclass(frozen=True, slots=True)
class ApiAccess:
    """One API server, and who we are to it."""

    server: str
    """URL without a path's slash at the end."""

    make_tls: Callable[[], ssl.SSLContext | None] = field(repr=False)
    """Reads the certificates and makes a context; None for plain HTTP."""

    token: TokenFile | Callable[[], str] | None = field(default=None, repr=False)
    """Returns the bearer token."""

    def expire_token(self) -> None:
        """The server refused the token."""
        if isinstance(self.token, TokenFile):
            self.token.expire()


def in_cluster(
    environment: Mapping[str, str] = os.environ, directory: Path = SERVICE_ACCOUNT
) -> ApiAccess:
    """How a pod reaches its API server.

    Raises:
        AccessError: this is not a pod, or it has no service account.
    """
    host = environment.get("KUBERNETES_SERVICE_HOST", "")
    port = environment.get("KUBERNETES_SERVICE_PORT_HTTPS") or environment.get(
        "KUBERNETES_SERVICE_PORT", "443"
    )
    token, authority = directory / "token", directory / "ca.crt"
    if not host or not token.exists() or not authority.exists():
        raise AccessError(
            "not in a pod with a service account (KUBERNETES_SERVICE_HOST, "
            f"{token} and {authority} are needed); outside of one, name a file with --kubeconfig"
        )
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    return ApiAccess(
        server, lambda: ssl.create_default_context(cafile=str(authority)), TokenFile(token)
    )


def from_kubeconfig(path: Path) -> ApiAccess:
    """How the current context of a kubeconfig reaches its API server.

    Raises:
        AccessError: the file cannot be read, is incomplete, or asks for a program or plugin.
    """
    import yaml  # not needed in a pod

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        context = _named(content, "contexts", content["current-context"])["context"]
        cluster = _named(content, "clusters", context["cluster"])["cluster"]
        user = _named(content, "users", context["user"])["user"]
        server = str(cluster["server"]).rstrip("/")
    except (OSError, yaml.YAMLError) as error:
        raise AccessError(f"{path}: {error}; name another file with --kubeconfig") from error
    except (KeyError, TypeError, StopIteration) as error:
        raise AccessError(
            f"{path}: not a kubeconfig with a current context, its cluster and its user "
            f"({error!r}); write these"
        ) from error
    if "exec" in user or "auth-provider" in user:
        raise AccessError(
            f"{path}: the user needs a program to log in; use a token or a certificate"
        )
    base = path.parent
    token: TokenFile | Callable[[], str] | None = None
    if "tokenFile" in user:
        token = TokenFile(base / str(user["tokenFile"]))
    elif "token" in user:
        text = str(user["token"])
        token = lambda: text  # noqa: E731  # a value, not a function of its own
    return ApiAccess(server, lambda: _tls(server, cluster, user, base), token)


def _named(content: Any, section: str, name: str) -> Any:
    return next(entry for entry in content[section] if entry["name"] == name)


def _tls(
    server: str, cluster: Mapping[str, Any], user: Mapping[str, Any], base: Path
) -> ssl.SSLContext | None:
    if server.startswith("http://"):
        return None
    authority = _content(cluster, "certificate-authority", base)
    context = ssl.create_default_context(cadata=authority.decode("ascii") if authority else None)
    certificate = _content(user, "client-certificate", base)
    key = _content(user, "client-key", base)
    if certificate and key:
        # The library takes these from files only.
        with tempfile.TemporaryDirectory(prefix="headwater-") as directory:
            chain = Path(directory) / "client.pem"
            descriptor = os.open(chain, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "wb") as stream:
                stream.write(certificate + b"\n" + key)
            context.load_cert_chain(chain)
    return context


def _content(section: Mapping[str, Any], name: str, base: Path) -> bytes:
    """A certificate or key that a kubeconfig holds itself or names a file of."""
    try:
        if f"{name}-data" in section:
            return base64.b64decode(section[f"{name}-data"], validate=True)
        return (base / str(section[name])).read_bytes() if name in section else b""
    except (OSError, binascii.Error, ValueError) as error:
        raise AccessError(f"{name} of the kubeconfig: {error}") from error
