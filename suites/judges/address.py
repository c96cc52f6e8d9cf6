"""Addresses of servers: refused before anything is sent or written, and never repeated, for a key may be in them."""

from __future__ import annotations

from urllib.parse import urlsplit

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Names of this machine."""
OPENAI_URL = "https://api.openai.com/v1"
"""Where a judge without a url is."""
NO_SECRET = "holds a user, password, query or fragment; a key belongs into OPENAI_API_KEY alone"  # noqa: S105
"""What is said of an address that may hold a key."""


def checked_url(url: str, name: str = "the judge's url") -> str:
    """The address of a server as it was given.

    Only what stands for secrets in an address is looked for: a path is taken as it is, and will be written down.

    Args:
        url: base of an API, as in `http://127.0.0.1:8080/v1`.
        name: what the message calls it.

    Raises:
        ValueError: it is not one, or holds a user, a password, a query or a fragment.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:  # an open bracket, a port that is no number
        usable = False
    if "@" in url or "?" in url or "#" in url:
        raise ValueError(f"{name} {NO_SECRET}")
    if not usable or not url.isprintable() or " " in url:
        raise ValueError(f"{name} must begin with http:// or https:// and look like http://127.0.0.1:8080/v1")
    return url


def is_loopback(url: str) -> bool:
    """Whether an address is that of this machine."""
    return urlsplit(url).hostname in LOOPBACK


def is_openai(url: str) -> bool:
    """Whether an address is OpenAI's own, encrypted."""
    parts, own = urlsplit(url), urlsplit(OPENAI_URL)
    return (parts.scheme, parts.netloc) == (own.scheme, own.netloc)


def in_clear_text(url: str) -> bool:
    """Whether a key that is sent there can be read on the way."""
    return urlsplit(url).scheme == "http" and not is_loopback(url)


def without_scheme(url: str) -> str:
    """Host, port and path: how a server is called."""
    parts = urlsplit(url)
    return parts.netloc + parts.path.rstrip("/")
