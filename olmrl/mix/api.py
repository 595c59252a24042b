"""An OpenAI-compatible HTTP API: chat, files and batches, with polite retries (httpx + tenacity).

A request that only reads, or that the server can recognise as a repeat, is retried after a dropped
connection, 408, 409, 429 or 5xx, honouring `Retry-After`. Creating something that costs money is
never repeated blindly (see `openai_batches`).
"""

from __future__ import annotations

import argparse
import email.utils
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urljoin

import httpx
import tenacity

from olmrl.arguments import positive
from olmrl.redaction import secret_in

RETRY_STATUS = frozenset((408, 409, 425, 429, 500, 502, 503, 504, 529))
"""Status codes of transient errors."""

OPENAI = "https://api.openai.com/v1"

_PERMANENT = frozenset(("insufficient_quota", "billing_hard_limit_reached"))


class ApiError(Exception):
    """The server refused the request or could not be reached."""

    def __init__(self, status: int, code: str, message: str, wait_s: float | None = None) -> None:
        super().__init__(status, code, message, wait_s)
        self.status = status
        """HTTP status; 0: no response."""
        self.code = code
        """The API's own error code, or ""."""
        self.message = message
        self.wait_s = wait_s
        """Seconds the server asked to wait."""

    def __str__(self) -> str:
        code = "" if self.code == str(self.status) else self.code  # vLLM repeats the status
        kind = f"HTTP {self.status} {code}".rstrip()
        return f"{kind}: {self.message}" if self.status else self.message

    @property
    def transient(self) -> bool:
        """Whether the same request may succeed later."""
        return (self.status == 0 or self.status in RETRY_STATUS) and self.code not in _PERMANENT


class PoliteWait(tenacity.wait.wait_base):
    """Waits as long as the server asks, else exponential backoff with jitter."""

    def __init__(self, longest_s: float) -> None:
        self.backoff = tenacity.wait_random_exponential(multiplier=0.5, max=longest_s)

    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        """Seconds until the next try."""
        outcome = retry_state.outcome
        error = outcome.exception() if outcome else None
        asked = error.wait_s if isinstance(error, ApiError) else None
        return asked if asked is not None else self.backoff(retry_state)


def polite_retries(attempts: int, longest_wait_s: float) -> tenacity.Retrying:
    """Repeats a call as long as its `ApiError` is transient, `attempts` times at most."""
    return tenacity.Retrying(
        stop=tenacity.stop_after_attempt(attempts),
        wait=PoliteWait(longest_wait_s),
        retry=tenacity.retry_if_exception(lambda e: isinstance(e, ApiError) and e.transient),
        reraise=True,
    )


class Api:
    """One server and one key.

    Args:
        base_url: Everything before `/chat/completions`, e.g. `https://api.openai.com/v1`.
        key: Sent as a bearer token.
        attempts: Tries per request.
        timeout_s: Seconds without a byte before a connection counts as dropped.
        longest_wait_s: Cap on the backoff between tries.
    """

    def __init__(
        self,
        base_url: str,
        key: str,
        *,
        attempts: int = 6,
        timeout_s: float = 300.0,
        longest_wait_s: float = 60.0,
    ) -> None:
        self.attempts = attempts
        self.longest_wait_s = longest_wait_s
        refuse_key_in(base_url)
        self.http = httpx.Client(
            base_url=base_url.rstrip("/") + "/",
            headers={"Authorization": f"Bearer {key}"},
            timeout=httpx.Timeout(timeout_s, connect=30.0),
            limits=httpx.Limits(max_connections=256),
        )

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *error: object) -> None:
        self.http.close()

    def once(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """Send one request, without retries.

        Raises:
            ApiError: no response, a broken one, a status of 400 or above, or a redirection, which
                is not followed: pages and key are for the server that the user named.
        """
        try:
            response = self.http.request(method, path, **arguments)
        except httpx.HTTPError as error:
            cause = str(error) or type(error).__name__
            raise ApiError(0, "", f"{self.http.base_url}{path}: {cause}") from error
        if response.has_redirect_location:
            where = urljoin(str(response.url), response.headers["location"]).partition("?")[0]
            message = f"sends us to {where}; name that server if it is meant"
            raise ApiError(response.status_code, "", f"{response.url}: {message}")
        if response.status_code >= 400:
            raise _error_of(response)
        return response

    def retrying(self, action: Callable[[], Any]) -> Any:
        """Do something that is safe to repeat, with `polite_retries`."""
        return polite_retries(self.attempts, self.longest_wait_s)(action)

    def get_json(self, path: str, **params: Any) -> dict[str, Any]:
        """GET a JSON object."""
        return json_of(self.retrying(lambda: self.once("GET", path, params=params)))

    def get_bytes(self, path: str) -> bytes:
        """GET a body."""
        return bytes(self.retrying(lambda: self.once("GET", path)).content)

    def delete(self, path: str) -> None:
        """DELETE; a 404 is fine."""
        try:
            self.retrying(lambda: self.once("DELETE", path))
        except ApiError as error:
            if error.status != 404:
                raise

    def pages(self, path: str, **params: Any) -> Iterator[dict[str, Any]]:
        """All items of a paginated list."""
        after: str | None = None
        while True:
            cursor = {"after": after} if after else {}
            page = self.get_json(path, limit=100, **params, **cursor)
            items = page.get("data", [])
            yield from items
            if not page.get("has_more") or not items:
                return
            after = items[-1]["id"]

    def chat(self, body: dict[str, Any], idempotency_key: str) -> dict[str, Any]:
        """One chat completion; a server that supports the key answers a repeat at no cost.

        Args:
            body: The request.
            idempotency_key: What is asked about; another body is another request.
        """
        headers = {"Idempotency-Key": repeat_key(idempotency_key, body)}
        return json_of(
            self.retrying(lambda: self.once("POST", "chat/completions", json=body, headers=headers))
        )


def repeat_key(name: str, body: Mapping[str, Any]) -> str:
    """By which a server knows a repeat: a header takes no name of a file, which may be any text."""
    identity = json.dumps([name, body], sort_keys=True)
    return hashlib.sha256(identity.encode("ascii")).hexdigest()


def json_of(response: httpx.Response) -> dict[str, Any]:
    """The JSON object in a response.

    Raises:
        ApiError: the body is something else.
    """
    try:
        value = response.json()
    except ValueError as error:
        raise ApiError(0, "", f"{response.url}: the response is not JSON") from error
    if not isinstance(value, dict):
        raise ApiError(0, "", f"{response.url}: the response is not a JSON object")
    return value


def _error_of(response: httpx.Response) -> ApiError:
    try:
        error = response.json()["error"]
        code, message = str(error.get("code") or error.get("type") or ""), str(error["message"])
    except (ValueError, KeyError, TypeError, AttributeError):
        code, message = "", response.text[:200]
    return ApiError(response.status_code, code, message, retry_after(response))


def retry_after(response: httpx.Response) -> float | None:
    """Seconds that the `Retry-After` header asks for (number or date), at most 10 minutes."""
    value = response.headers.get("retry-after")
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return None
    return min(max(seconds, 0.0), 600.0)


def refuse_key_in(base_url: str) -> None:
    """Refuse an address that holds a key: journals and errors repeat it.

    Raises:
        ValueError: it does.
    """
    if reason := secret_in(base_url):
        raise ValueError(f"--base-url {reason}; give the key by --api-key-env")


def key_from_environment(variable: str) -> str:
    """The API key.

    Raises:
        ValueError: the variable is not set.
    """
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ValueError(
            f"no API key: set the environment variable {variable} (--api-key-env names another)"
        )
    return key


def key_for(base_url: str, variable: str) -> str:
    """The API key for a server; one of the user's own needs none.

    Raises:
        ValueError: the address is no URL, or OpenAI's API without a key.
    """
    refuse_key_in(base_url)
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise ValueError(f"--base-url {base_url!r}: {error}") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError(f"--base-url {base_url!r} must be like http://host:8000/v1")
    if url.host == httpx.URL(OPENAI).host:
        return key_from_environment(variable)
    return os.environ.get(variable, "").strip() or "none"


def add_api_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verbs that talk to an OpenAI-compatible API."""
    parser.add_argument("--base-url", default=OPENAI, help="any OpenAI-compatible API")
    parser.add_argument("--api-key-env", default="OPENAI_API_KEY", help="variable with the key")
    parser.add_argument("--price", help="IN,OUT dollars per million tokens (default: list price)")
    parser.add_argument("--tries", type=positive, default=6, help="tries per HTTP request")
