"""Where a benchmark's files come from, as its own file states it: addresses, sizes, hashes, and what becomes of them.

Layout, Google Drive's ids and sizes of splits are CoOp's (DATASETS.md, Zhou et al., IJCV 2022); MD5 sums are
torchvision's, SHA-256 sums and exact sizes TensorFlow Datasets' (`url_checksums/`). SHA-256 sums of CoOp's splits were
taken of the copies in linzhiqiu/cross_modal_adaptation on GitHub; those of Food-101's and SUN397's, and again the others,
stand in dczyjh/HAPR-LAPR. What nobody states is left open, and then only what can be counted is checked. Of an archive,
only what the readers read is taken.
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
    sha256: str = ""  # of CoOp's split file; spaces and line ends do not count


@dataclass(frozen=True)
class Archive(Source):
    members: dict[str, str] = field(default_factory=dict)  # path under the benchmark's folder: path in the archive
    images: dict[str, int] = field(default_factory=dict)  # in which members there are at least how many
    with_names: tuple[str, ...] = ()  # further archives that belong to it, and lie beside it


def largest(source: Source, way: Way) -> int:
    """Bytes that may come: its size, or half as much again as it has about, or 1 GB where nobody says."""
    return way.size or int(1.5e9 * source.gigabytes) or 1_000_000_000


@dataclass(frozen=True)
class Mirror:
    """A benchmark's whole folder in one .zip, as CoOp lays it out, with its split file, which PromptKD's authors keep.

    Li et al., CVPR 2024 (https://huggingface.co/zhengli97/prompt_learning_dataset). A revision of a git repository says
    every byte of its files, so that nobody can exchange one of them later.
    """

    name: str
    digest: str = ""  # sha256:..., where the Hub's page of the file was seen
    repository: str = "zhengli97/prompt_learning_dataset"
    revision: str = "ceb3112337fb6e1bf71534e355ca5569b63f19a6"

    @property
    def address(self) -> str:
        return f"https://huggingface.co/{self.repository}/blob/{self.revision}/{self.name}"
