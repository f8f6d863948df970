"""Fetch a benchmark's mirror from the Hugging Face Hub, by the Hub's own library.

Its settings hold here too: HF_ENDPOINT (another server), HF_HUB_OFFLINE (the cache alone), HF_HOME (where the cache is).
It resumes, sees that sizes are right, and names what it keeps by SHA-256, which is computed again here.
"""

import os
import re

from dassl.utils import InputError, mkdir_if_missing

from ..sources import Mirror
from .download import check_remembered, check_space, digest_of


def fetch_mirror(mirror: Mirror, folder: str) -> tuple[str, str]:
    """The archive's path in the library's cache, whole, and its SHA-256; it will be unpacked in `folder`."""
    from huggingface_hub import constants  # only here: few runs need it

    cache = constants.HF_HUB_CACHE
    plan = ask(mirror, dry_run=True)
    mkdir_if_missing(cache)
    download = plan.file_size if plan.will_download else 0
    same_disk = os.stat(cache).st_dev == os.stat(folder).st_dev
    check_space(folder, plan.file_size + same_disk * download, mirror.name)  # pictures hardly shrink in an archive
    check_space(cache, download, f"{mirror.name}, in Hugging Face's cache,")
    path = ask(mirror)
    found = check_whole(path, mirror)
    if not mirror.digest:
        check_remembered(found, os.path.join(folder, mirror.name))
    return path, found


def ask(mirror: Mirror, **options):
    import huggingface_hub

    try:
        return huggingface_hub.hf_hub_download(mirror.repository, mirror.name, revision=mirror.revision, **options)
    except Exception as error:  # the network, an offline cache, permissions, a changed server: it fails in many ways
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"The mirror did not give {mirror.address} ({reason}): try again later, or name a server that has it in "
            "HF_ENDPOINT."
        ) from error


def check_whole(path: str, mirror: Mirror) -> str:
    """Its SHA-256, compared with the SHA-256 that the Hub states, which is the name of what it keeps, and with the one stated here."""
    found, kept_as = digest_of(path), os.path.basename(os.path.realpath(path))
    stated = mirror.digest.removeprefix("sha256:") or (kept_as if re.fullmatch("[0-9a-f]{64}", kept_as) else "")
    if stated and found != stated:
        raise InputError(f"{os.path.realpath(path)} is damaged (its SHA-256 is wrong): remove it, then run this again.")
    return found
