"""Polite downloads: a fixed rate per host, retries with backoff, complete bodies only."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from urllib.parse import urlsplit

import httpx

from olmrl.mix.api import ApiError, polite_retries, retry_after
from olmrl.mix.run import Fail, Skip

MAX_BYTES = 500_000_000
"""Largest body that is accepted."""

USER_AGENT = "olmrl-mix/1 (page transcripts for OCR training)"
"""Tells archives who is asking."""


class Downloader:
    """Fetches bodies for many threads.

    Args:
        per_second: Requests per second to one host, over all threads.
        tries: Tries per address.
        timeout_s: Seconds without a byte before a connection counts as dropped.
        longest_wait_s: Cap on the backoff between tries.
    """

    def __init__(
        self,
        *,
        per_second: float,
        tries: int,
        timeout_s: float = 60.0,
        longest_wait_s: float = 60.0,
    ) -> None:
        self.gap_s = 1.0 / per_second
        self.tries = tries
        self.longest_wait_s = longest_wait_s
        self.http = httpx.Client(
            timeout=timeout_s, follow_redirects=True, headers={"User-Agent": USER_AGENT}
        )
        self._next: defaultdict[str, float] = defaultdict(float)
        self._lock = threading.Lock()

    def __enter__(self) -> Downloader:
        return self

    def __exit__(self, *error: object) -> None:
        self.http.close()

    def get(self, url: str) -> bytes:
        """Fetch one address.

        Raises:
            Skip: not an http(s) address, or the server does not have it (404, 410).
            Fail: no complete response after all tries.
        """
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise Skip(f"not an http address: {url[:200]!r}")
        try:
            body: bytes = polite_retries(self.tries, self.longest_wait_s)(self._once, url)
        except ApiError as error:
            if error.status in (404, 410):
                raise Skip(f"{url}: HTTP {error.status}") from error
            raise Fail(f"{url}: {error}") from error
        return body

    def _once(self, url: str) -> bytes:
        self._wait_turn(urlsplit(url).netloc)
        try:
            with self.http.stream("GET", url) as response:
                if response.status_code >= 400:
                    wait = retry_after(response)
                    raise ApiError(response.status_code, "", "download refused", wait)
                body = bytearray()
                for block in response.iter_bytes():
                    body += block
                    if len(body) > MAX_BYTES:
                        raise Skip(f"{url}: larger than {MAX_BYTES} bytes")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ApiError(0, "", str(error) or type(error).__name__) from error
        if not body:
            raise ApiError(0, "", "the body is empty")
        return bytes(body)

    def _wait_turn(self, host: str) -> None:
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next[host])
            self._next[host] = turn + self.gap_s
        time.sleep(turn - now)
