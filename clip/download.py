"""Downloads that are checked by SHA-256 and go on where they broke off, over https alone and of a stated size at most."""

import hashlib
import os
import time
import urllib.request
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler

from filelock import FileLock  # comes with torch
from tqdm import tqdm

from . import kept
from .errors import InputError

TRIES = 5  # connections in one call; a later call goes on from there
LARGEST = 2_000_000_000  # bytes of CLIP's weights, at most: ViT-L/14@336px has 0.93 GB
THIS_MACHINE = ("127.0.0.1", "::1", "localhost")  # where http is enough


def check_address(url: str) -> None:
    """Refuse what anybody on the way could read and change."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in THIS_MACHINE):
        raise InputError(f"{url} is not fetched, as it is not https: name an https address.")


class SameScheme(HTTPRedirectHandler):
    """Follows a redirection from https to https alone."""

    def redirect_request(self, request, answer, code, message, headers, url):
        if urlsplit(url).scheme != request.type:
            raise InputError(f"{request.full_url} leads to {url}, which is not {request.type}: name another address.")
        check_address(url)
        return super().redirect_request(request, answer, code, message, headers, url)


def sha256_of(path: str | os.PathLike) -> str:
    former = kept.sha256_of(path)
    if former is not None:
        return former
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def is_whole(path: str, sha256: str) -> bool:
    return os.path.isfile(path) and sha256_of(path) == sha256


def download(url: str, path: str, sha256: str) -> str:
    """Fetch `url` into `path`, in an existing folder, unless it is there already, whole; `path` is returned.

    What has come so far stays in `path.part`, for the next try or the next call. Runs that start together take turns.
    """
    if is_whole(path, sha256):  # asked before the lock, so that a cache that cannot be written will do
        return path
    with FileLock(path + ".lock"):
        if is_whole(path, sha256):  # another run has fetched it meanwhile
            return path
        if os.path.isfile(path):
            print(f"{path} is damaged (its SHA-256 is wrong): fetching it again")
        part = path + ".part"
        receive_all(url, part, path, LARGEST)
        if sha256_of(part) != sha256:
            os.unlink(part)
            raise InputError(
                f"{url} gave a file with a wrong SHA-256, so it was thrown away: try again, or put the right file there by hand as {path}."
            )
        os.replace(part, path)
    return path


def receive_all(url: str, part: str, path: str, at_most: int) -> None:
    """`receive` until `part` is complete, over a few connections; `at_most` bytes."""
    check_address(url)
    for attempt in range(1, TRIES + 1):
        try:
            return receive(url, part, at_most)
        except (OSError, EOFError, HTTPException) as error:  # URLError, timeouts and resets are OSErrors
            status = error.code if isinstance(error, HTTPError) else None
            if status == 416 and os.path.isfile(part):  # nothing beyond what we have
                return
            if attempt == TRIES or (status and status < 500):
                reason = str(error).strip() or type(error).__name__
                raise InputError(
                    f"{url} could not be fetched ({reason}): try again later (what has come is kept), or put the file there by hand as {path}."
                ) from error
        time.sleep(min(2 ** (attempt - 1), 8) * float(os.environ.get("CLIP_RETRY_SECONDS", "1")))


def receive(url: str, part: str, at_most: int) -> None:
    """Append to `part` what it lacks of `url`; start over where the server cannot go on in the middle."""
    have = os.path.getsize(part) if os.path.isfile(part) else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    opener = urllib.request.build_opener(SameScheme)
    opener.addheaders = [("User-Agent", "spotlighter")]  # some servers refuse Python's own name
    with opener.open(request, timeout=30) as answer:
        resumed = answer.status == 206
        have = have if resumed else 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else None
        bar = tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=os.path.basename(part)[:-5], disable=None)
        with bar, open(part, "ab" if resumed else "wb") as file:
            while block := answer.read(1 << 16):
                have += len(block)
                check_size(url, part, max(have, total or 0), at_most)
                file.write(block)
                bar.update(len(block))
    if total is not None and have < total:
        raise EOFError(f"the connection ended after {have} of {total} bytes")


def check_size(source: str, part: str, size: int, at_most: int) -> None:
    """Refuse more bytes than a file can have, and throw away what has come."""
    if size > at_most:
        os.unlink(part)
        raise InputError(f"{source} gave a wrong file (more than {at_most:,} bytes), which was thrown away.")
