"""What the programs that serve a page on this machine share: where they listen, and whom they answer."""

import ipaddress
import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

from ..errors import UsageError


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on a host and port; port 0 takes any free one. Raises UsageError."""
    if not 0 <= port <= 65535:
        raise UsageError(f"--port {port} is impossible; choose 1 to 65535, or 0 for any free one.")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"--host {host} --port {port}: cannot listen there ({reason}); choose another.") from error


def foreign_request(method: str, headers: Mapping[str, str], host: str) -> tuple[int, str] | None:
    """Return status and sentence for a request that comes from elsewhere than the own page, None for one that may pass.

    A foreign page can make a browser send requests here (CSRF), or point its own name at this address and read the
    answers (DNS rebinding). The first carries a foreign Origin, the second a foreign name as Host.

    method: "GET", "POST" ... or "WEBSOCKET". headers: by their names in small letters. host: the address that the
    server listens on.
    """
    named = headers.get("host", "")
    if not _is_own_name(named, host):
        return 421, f"This server does not answer to the name {named[:100]!r}; use the address that it printed."
    origin = headers.get("origin")
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and method != "GET":
        return 403, "Another page may not use this server."
    if origin is not None and urlsplit(origin).netloc != named:
        return 403, "Another page may not use this server."
    return None


def _is_own_name(named: str, host: str) -> bool:
    try:
        name = urlsplit(f"//{named}").hostname or ""
    except ValueError:
        return False
    if name in ("localhost", host) or _is_address(name):
        return True  # an address needs no name server, so DNS rebinding is impossible
    machine = socket.gethostname().lower()
    return not is_loopback(host) and name in (machine, f"{machine}.local")


def _is_address(name: str) -> bool:
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Return whether only programs of this machine reach a server that listens on `host`."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def shown_name(host: str) -> str:
    """Return how a server that listens on `host` is written in an address.

    For 0.0.0.0 and ::, which stand for all addresses, this is the name of the machine.
    """
    if _is_address(host) and ipaddress.ip_address(host).is_unspecified:
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host
