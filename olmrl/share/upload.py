"""Files to a repository on the Hub: what is there already stays, the rest goes in one commit.

An upload that broke off goes on where it was: the Hub keeps large files by their content, and the
commit, which makes all of them visible at once, comes last.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any, Literal, NamedTuple

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

from olmrl.progress import track, waiting

TAG = "olmrl"
"""Stands in every card, so that olmrl knows what it pushed itself."""
TOKEN = "HF_TOKEN"
_BLOCK = 2**20
_LARGE = 2**20
"""Bytes beyond which a file is sent by itself."""
_BROKEN_OFF: tuple[type[Exception], ...] = (
    *(k for k in HfHubHTTPError.__mro__ if issubclass(k, Exception) and k is not Exception),
    OSError,
    RuntimeError,
)
"""Errors of the HTTP library under the Hub's client, which has changed it more than once."""
_OURS_ALREADY = (".gitattributes",)
"""Files that the Hub puts into a new repository."""


@dataclass(frozen=True, slots=True)
class Item:
    """A file to share."""

    name: str
    """Path in the repository."""
    content: str | bytes
    """Path of a local file, or what the file holds."""

    @property
    def size(self) -> int:
        """Bytes."""
        held = self.content
        return len(held) if isinstance(held, bytes) else os.path.getsize(held)


@dataclass(frozen=True, slots=True)
class Target:
    """Where it goes."""

    repo: str
    """`org/name`."""
    kind: Literal["model", "dataset"]
    public: bool
    owned: tuple[str, ...]
    """Patterns of files that go from the repository when they are not shared any more."""


class Changes(NamedTuple):
    """What a push does."""

    added: list[Item]
    same: list[Item]
    removed: list[str]
    url: str


def hub(environment: Mapping[str, str] = os.environ) -> HfApi:
    """The Hub's client, with the token of the environment.

    Raises:
        ValueError: there is no token, or the environment forbids the network.
    """
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if environment.get(name, "").lower() in ("1", "true", "yes", "on"):
            raise ValueError(f"{name}={environment[name]} forbids the network; unset it to push")
    token = environment.get(TOKEN, "").strip()
    if not token:
        raise ValueError(
            f"{TOKEN} is not set; make a token that may write at the Hub (Settings, Access Tokens) "
            "and export it, or look first with --dry-run"
        )
    disable_progress_bars()  # `waiting` says how far it is
    return HfApi(endpoint=environment.get("HF_ENDPOINT") or None, token=token)


def push(api: HfApi, target: Target, items: Sequence[Item], message: str) -> Changes:
    """Make the repository hold these files.

    Args:
        api: The Hub's client.
        target: The repository; it is made if there is none.
        items: All that is shared, the card among them.
        message: Of the commit.

    Raises:
        ValueError: the repository holds other work or is of another visibility, or the Hub refuses.
    """
    try:
        return _push(api, target, items, message)
    except HfHubHTTPError as error:
        raise ValueError(_refusal(target, error)) from error
    except _BROKEN_OFF as error:
        cause = error.__cause__ or error
        if isinstance(cause, HfHubHTTPError):
            raise ValueError(_refusal(target, cause)) from error
        reason = (str(cause) or type(cause).__name__).splitlines()[0]
        raise ValueError(
            f"{target.repo}: the upload broke off ({reason}); the same command goes on"
        ) from error


def _push(api: HfApi, target: Target, items: Sequence[Item], message: str) -> Changes:
    info = _look(api, target)
    if info is None:
        api.create_repo(target.repo, repo_type=target.kind, private=not target.public)
        info = _look(api, target)
        assert info is not None
    there = {file.rfilename: file for file in info.siblings or ()}
    compared = track(items, "comparing files", len(items))
    changed = [item for item in compared if not _is_there(item, there.get(item.name))]
    names = {item.name for item in items}
    gone = [n for n in there if n not in names and any(fnmatch(n, p) for p in target.owned)]
    same = [item for item in items if item not in changed]
    url = f"{api.endpoint}/{'datasets/' if target.kind == 'dataset' else ''}{target.repo}"
    if changed or gone:
        adds = [CommitOperationAdd(item.name, item.content) for item in changed]
        _send_large(api, target, [a for a, i in zip(adds, changed, strict=True) if i.size > _LARGE])
        api.create_commit(
            target.repo,
            [*adds, *(CommitOperationDelete(name) for name in gone)],
            commit_message=message,
            repo_type=target.kind,
            parent_commit=info.sha,
        )
    return Changes(changed, same, gone, url)


def _look(api: HfApi, target: Target) -> Any:
    """What the repository holds; None if there is none.

    Raises:
        ValueError: it must not be written to.
    """
    try:
        info: Any = api.repo_info(target.repo, repo_type=target.kind, files_metadata=True)
    except RepositoryNotFoundError:
        return None
    if info.private and target.public:
        raise ValueError(
            f"{target.repo}: is private on the Hub, with all its history; make it public in its "
            "settings there, then push with --public, or choose another name"
        )
    if not info.private and not target.public:
        raise ValueError(
            f"{target.repo}: is public on the Hub; push with --public if that is meant, or choose "
            "another name"
        )
    held = {file.rfilename for file in info.siblings or ()} - set(_OURS_ALREADY)
    if held and TAG not in (info.tags or ()):
        raise ValueError(
            f"{target.repo}: holds files that olmrl did not push (its card has no tag {TAG}); "
            "choose another name"
        )
    return info


def _is_there(item: Item, file: Any) -> bool:
    """Whether the repository has a file with this content."""
    if file is None or file.size != item.size:
        return False
    if file.lfs is not None:
        return bool(file.lfs["sha256"] == _digest(item, hashlib.sha256()))
    blob = hashlib.sha1(f"blob {item.size}\0".encode(), usedforsecurity=False)
    return bool(file.blob_id == _digest(item, blob))


def _digest(item: Item, digest: Any) -> str:
    if isinstance(item.content, bytes):
        digest.update(item.content)
        return str(digest.hexdigest())
    with open(item.content, "rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return str(digest.hexdigest())


def _send_large(api: HfApi, target: Target, adds: Sequence[CommitOperationAdd]) -> None:
    """Send large files one by one; the others go with the commit."""
    for number, add in enumerate(adds, 1):
        with waiting(f"sending {add.path_in_repo}, {number} of {len(adds)} large files"):
            api.preupload_lfs_files(target.repo, [add], repo_type=target.kind, free_memory=False)


def _refusal(target: Target, error: HfHubHTTPError) -> str:
    """What the Hub's answer means."""
    status = error.response.status_code if error.response is not None else 0
    if status == 401:
        return f"{target.repo}: the Hub does not know the token in {TOKEN}; make a new one there"
    if status == 403:
        return (
            f"{target.repo}: the token in {TOKEN} may not write there; it needs the right to write "
            f"to {target.repo.partition('/')[0]}"
        )
    if status == 412:
        return f"{target.repo}: somebody else wrote to it meanwhile; run the same command again"
    said = getattr(error, "server_message", None) or str(error).splitlines()[0]
    return f"{target.repo}: the Hub refused with status {status} ({said})"


def in_words(count: int) -> str:
    """A size for people."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def listing(items: Sequence[Item]) -> list[str]:
    """A line for each file, with its size."""
    wide = max((len(item.name) for item in items), default=0)
    lines = [f"  {item.name:<{wide}}  {in_words(item.size):>10}" for item in items]
    return [*lines, f"{len(items)} files, {in_words(sum(item.size for item in items))}"]
