"""Downloads that are checked by SHA-256 and go on where they broke off."""

import hashlib
import os
import time
import urllib.error
import urllib.request

from tqdm import tqdm

from .errors import InputError

TRIES = 5  # connections, as long as each brings something new


def sha256_of(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def download(url: str, path: str, sha256: str) -> str:
    """Fetch `url` into `path` unless it is there already, whole; `path` is returned.

    What has come so far stays in `path.part`, for the next try or the next call.
    """
    if os.path.isfile(path):
        if sha256_of(path) == sha256:
            return path
        print(f"{path} is damaged (its SHA-256 is wrong): fetching it again")
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    part, reason = path + ".part", None
    for attempt in range(TRIES):
        try:
            receive(url, part)
            break
        except (OSError, EOFError) as error:  # URLError, timeouts and resets are OSErrors
            reason = error
            if isinstance(error, urllib.error.HTTPError) and error.code == 416:  # nothing beyond what we have
                break
            if isinstance(error, urllib.error.HTTPError) and error.code < 500:
                attempt = TRIES
            if attempt + 1 < TRIES:
                time.sleep(min(2**attempt, 8) * float(os.environ.get("CLIP_RETRY_SECONDS", "1")))
            else:
                raise InputError(
                    f"{url} could not be fetched ({reason}): try again later (what has come is kept), or put the file there by hand as {path}."
                ) from error
    if sha256_of(part) != sha256:
        os.unlink(part)
        raise InputError(
            f"{url} gave a file with a wrong SHA-256, so it was thrown away: try again, or put the right file there by hand as {path}."
        )
    os.replace(part, path)
    return path


def receive(url: str, part: str) -> None:
    """Append to `part` what it lacks of `url`; start over where the server cannot go on in the middle."""
    have = os.path.getsize(part) if os.path.isfile(part) else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=30) as answer:
        resumed = answer.status == 206
        have = have if resumed else 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else None
        bar = tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=os.path.basename(part)[:-5], disable=None)
        with bar, open(part, "ab" if resumed else "wb") as file:
            while block := answer.read(1 << 16):
                file.write(block)
                bar.update(len(block))
                have += len(block)
    if total is not None and have < total:
        raise EOFError(f"the connection ended after {have} of {total} bytes")
