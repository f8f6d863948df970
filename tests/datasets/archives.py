"""Archives that are made here, and what has become of them."""

import io
import os
import tarfile
import zipfile
from pathlib import Path

IMAGES = {f"{folder}/{number}.jpg": os.urandom(40_000) for folder in "ab" for number in range(2)}


def tar_of(files: dict[str, bytes], mode: str = "w:gz", *extra: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        for entry in extra:
            tar.addfile(entry)
    return buffer.getvalue()


def zip_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in files.items():
            file.writestr(name, content)
    return buffer.getvalue()


def under(folder: str, files: dict[str, bytes] = IMAGES) -> dict[str, bytes]:
    return {f"{folder}/{name}": content for name, content in files.items()}


def link(name: str, to: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, to
    return entry


def tree(folder: Path) -> set[str]:
    """All files but the lock, and what is kept of hashes."""
    files = {p for p in folder.rglob("*") if p.is_file() and p.name != ".prepare.lock" and p.suffix != ".sha256"}
    return {str(p.relative_to(folder)) for p in files}
