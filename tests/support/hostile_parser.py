"""Functions that do to a reader what hostile files do."""

import os
import time


def read(path: str, page_number: int) -> str:
    """Behave as the path says."""
    if "hang" in path:
        time.sleep(60)
    if "nap" in path:
        time.sleep(0.8)
    if "crash" in path:
        os.abort()
    if "swell" in path:
        return str(len(bytes(1 << 40)))
    return f"{path} {page_number} {os.getpid()}"
