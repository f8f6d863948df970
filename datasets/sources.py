"""Where a benchmark's files come from, as its own file states it: addresses, sizes, hashes, and what becomes of them.

Layout, Google Drive's ids and sizes of splits are CoOp's (DATASETS.md, Zhou et al., IJCV 2022); MD5 sums are
torchvision's, SHA-256 sums and exact sizes TensorFlow Datasets' (`url_checksums/`). What nobody states is left open, and
then only what can be counted is checked. Of an archive, only what the readers read is taken.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Way:
    """One place to fetch a file from: a URL, or `drive:ID` on Google Drive."""

    url: str
    size: int = 0  # bytes, if known
    digest: str = ""  # md5:... or sha256:..., if known
    inside: str = ""  # in an archive of archives, the one that is wanted


@dataclass(frozen=True)
class Source:
    """What is fetched at once: `name` is how it is called in the benchmark's folder, also when it was put there by hand."""

    name: str
    ways: tuple[Way, ...] = ()  # tried in turn
    spare: bool = False  # read only where CoOp's split file is missing
    gigabytes: float = 0.0  # about, to see whether the disk has room


@dataclass(frozen=True)
class File(Source):
    entries: int | tuple[int, ...] = 0  # lines, keys, or rows of train, val and test
    copy: str = ""  # where under the data root the same file may lie already


@dataclass(frozen=True)
class Archive(Source):
    members: dict[str, str] = field(default_factory=dict)  # path under the benchmark's folder: path in the archive
    images: dict[str, int] = field(default_factory=dict)  # in which members there are at least how many
    with_names: tuple[str, ...] = ()  # further archives that belong to it, and lie beside it
