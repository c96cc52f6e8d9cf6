"""What an error of the Hugging Face clients means for a user: one line, and never a token in it."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import requests
from huggingface_hub import constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import httpx

_OFFLINE = "it is not in the cache, and HF_HUB_OFFLINE is set; unset it, or download once with a connection"
_STATUS = {
    401: "the hub refuses the token; check HF_TOKEN",
    403: "the hub forbids it; HF_TOKEN must be of an account that may read this",
    429: "the hub says: too many requests; try again in some minutes, or set HF_TOKEN",
}


def hub_reason(error: BaseException) -> str | None:
    """What went wrong at the hub and what to do, in one line; None if the error is not one of the hub's.

    The clients wrap one another's errors (transformers those of huggingface_hub, that those of httpx2), so the whole
    chain of causes is looked at, and the most specific one speaks. Nothing of an error's own text is used: it may
    hold an address with credentials in it.
    """
    found = [reason for each in _chain(error) if (reason := _reason(each))]
    return found[-1] if found else None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what caused it, outermost first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _reason(error: BaseException) -> str | None:
    match error:
        case OfflineModeIsEnabled():
            return _OFFLINE
        case GatedRepoError():
            return "it is gated; accept its licence on the hub and set HF_TOKEN to a token of that account"
        case RepositoryNotFoundError():
            return "there is no such repo on the hub, or it is private; check the name, or set HF_TOKEN"
        case RevisionNotFoundError():
            return "the repo has no such revision; name a branch, a tag or a commit of it"
        case LocalEntryNotFoundError() if constants.is_offline_mode():
            return _OFFLINE
        case LocalEntryNotFoundError():
            return f"it is not in the cache, and {_host()} did not give it; check the connection and try again"
        case EntryNotFoundError():
            return "the repo has no such file"
        case HFValidationError():
            return "this is no name of a repo; it must be org/name"
        case HfHubHTTPError() | requests.HTTPError():
            return _of_status(error.response.status_code if error.response is not None else 0)
        case httpx.TimeoutException() | requests.Timeout():
            return f"{_host()} did not answer in time; try again, or set HF_HUB_DOWNLOAD_TIMEOUT to more seconds"
        case httpx.TransportError() | requests.RequestException():
            return f"{_host()} cannot be reached, or hung up; check the connection (and HF_ENDPOINT), and try again"
        case OSError() if "Consistency check failed" in str(error):
            return "the download was cut short; try again"
    return None


def _of_status(status: int) -> str:
    return _STATUS.get(status, f"the hub answered with an error ({status}); try again later")


def _host() -> str:
    # Without user and password, which an address may hold.
    return urlsplit(constants.ENDPOINT).hostname or "the hub"
