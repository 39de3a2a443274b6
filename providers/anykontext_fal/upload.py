"""Input images too large for a data URI, put into fal's storage by the vendor's own client (fal-21, fal-22)."""

from hashlib import sha256
from ipaddress import ip_address
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from anykontext.adapting import InputImage, Kind, Refused

if TYPE_CHECKING:
    import httpx
    from pydantic import SecretStr

LONGEST_URL = 4_096
SUFFIXES = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp"}
# Anyone who knows the URL can see the picture, so it need not stay for longer than a task waits. Whether fal keeps
# to it is not established.
KEPT_FOR: Literal["1d"] = "1d"
KIND_OF_STATUS = {
    401: Kind.AUTHENTICATION_FAILED,
    403: Kind.AUTHENTICATION_FAILED,
    408: Kind.UNAVAILABLE,
    429: Kind.RATE_LIMITED,
}


def upload(image: InputImage, key: "SecretStr | str", timeout_s: float) -> str | Refused:
    """Put an image where fal can fetch it; anyone can who knows the URL.

    Args:
        image: The image; its `data` is sent.
        key: The API key. It goes to fal's REST host alone, for a token that the media host then gets.
        timeout_s: Seconds after which nothing is begun anew, and which each step of an exchange may take. A host that
            sends a byte now and then may hold it for longer: who calls this does not wait for it.

    Returns:
        The URL, or why fal refused. What else goes wrong is raised, without the key in its text.
    """
    import fal_client
    import httpx

    assert image.data is not None
    secret = key if isinstance(key, str) else key.get_secret_value()
    ends = monotonic() + timeout_s
    opened: list[httpx.Client] = []

    class Client(fal_client.SyncClient):
        """The vendor's client, whose connections are closed, and whose repeats end in time (fal-22)."""

        def _get_cdn_client(self) -> "httpx.Client":
            client = super()._get_cdn_client()
            client.event_hooks = {"request": [hurry]}
            opened.append(client)
            return client

    def hurry(request: "httpx.Request") -> None:
        left_s = ends - monotonic()
        if left_s <= 0:
            raise TimeoutError(f"the upload was not done within {timeout_s:g} s")
        request.extensions["timeout"] = dict.fromkeys(("connect", "read", "write", "pool"), left_s)

    try:
        url: Any = Client(key=secret, default_timeout=timeout_s).upload(
            image.data,
            image.media_type or "application/octet-stream",
            f"{sha256(image.data).hexdigest()[:16]}.{SUFFIXES.get(image.media_type or '', 'bin')}",
            repository="fal_v3",
            fallback_repository="fal_v3",  # fal-22: the other one shows the key to a third party
            lifecycle=fal_client.StorageSettings(expires_in=KEPT_FOR),
        )
    except (fal_client.FalClientHTTPError, httpx.HTTPStatusError) as error:
        status = error.response.status_code
        kind = KIND_OF_STATUS.get(status, Kind.UNAVAILABLE if status >= 500 else Kind.REQUEST_REJECTED)
        return Refused(kind, f"fal's storage answered with HTTP {status}", shape="status")
    except Exception as error:
        if secret in str(error):
            raise RuntimeError(str(error).replace(secret, "[key]")) from None
        raise
    finally:
        for client in opened:
            client.close()
    if not _is_plain(url):
        return Refused(Kind.PROTOCOL_ERROR, "fal's storage gave no https URL")
    return str(url)


def _is_plain(url: object) -> bool:
    """Whether it is an https URL; http is for this machine itself."""
    if not isinstance(url, str) or len(url) > LONGEST_URL or not url.isprintable() or " " in url:
        return False
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and ip_address(host).is_loopback))
    except ValueError:
        return False
