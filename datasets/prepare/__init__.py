"""Fetch benchmarks and lay them out as CoOp does: python -m datasets.prepare caltech101 dtd --root data

`all` means every one. What is there and whole is left alone, so that the same command goes on where it stopped. Archives
that lie in a benchmark's folder under their usual names are used in place of a download. Images that their own servers do
not give come from a mirror on the Hugging Face Hub. 2 is returned if something is left to do by hand, and said at the end.
"""

import argparse
import contextlib
import difflib
import os
import shutil
from collections.abc import Sequence

from filelock import FileLock, Timeout

from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import InputError, mkdir_if_missing
from one_run.arguments import add_data_root
from one_run.command import OK, USERS_TO_MEND, carry_out
from one_run.layout import BENCHMARKS, SHIFTED_IMAGENETS

from ..base import Benchmark
from ..sources import Archive, File, Source, Way, largest
from .download import (
    NoRoom,
    check_remembered,
    check_space,
    come_so_far,
    digest_of,
    fetch,
    remember_hash,
    web_address,
)
from .hub import fetch_mirror
from .install import (
    check_by_hand,
    check_known,
    check_members,
    fault_of,
    install_archive,
    install_file,
    install_mirror,
    is_ready,
)

ORIGIN, MIRROR = "origin", "mirror"


def fetchable() -> dict[str, type[Benchmark]]:
    """The benchmarks that say where they come from, by the name of their file; first those of the field, in its order."""
    registered = map(DATASET_REGISTRY.get, DATASET_REGISTRY.registered_names())
    found = {reader.__module__.rpartition(".")[2]: reader for reader in registered if getattr(reader, "sources", ())}
    return {name: found[name] for name in (*BENCHMARKS, *SHIFTED_IMAGENETS, *found) if name in found}


READERS = fetchable()


def main(argv: list[str] | None = None) -> int:
    return carry_out(
        lambda: prepare_asked(argv), interrupted="what has come is kept, and the same command goes on from there"
    )


def prepare_asked(argv: list[str] | None) -> int:
    parser = argparse.ArgumentParser(prog="python -m datasets.prepare", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", metavar="NAME", help=f"all, or some of {', '.join(READERS)}")
    add_data_root(parser)
    parser.add_argument("--keep-archives", action="store_true", help="keep what was downloaded after unpacking")
    parser.add_argument(
        "--from",
        dest="place",
        choices=(ORIGIN, MIRROR),
        default="",
        help="ask the benchmarks' own servers alone, or the mirror first; default: the mirror where they do not answer",
    )
    args = parser.parse_args(argv)
    try:
        names = benchmark_names(args.names)
    except InputError as error:
        parser.error(str(error))
    return prepare_all(names, os.path.abspath(os.path.expanduser(args.root)), args.keep_archives, args.place)


def prepare_all(names: list[str], root: str, keep_archives: bool, place: str = "") -> int:
    """One after the other; what is left to do is said at the end."""
    left = {name: prepare(name, root, keep_archives, place) for name in names}
    print("ready: " + (", ".join(name for name in left if not left[name]) or "none"))
    for name, tasks in left.items():
        if tasks:
            print("\n".join([f"left to do for {name}:", *(f"  {task}" for task in tasks)]))
    return USERS_TO_MEND if any(left.values()) else OK


def benchmark_names(given: list[str], others: tuple[str, ...] = ()) -> list[str]:
    """Config names for config names, registered names or folders in any case; `all`; `others` stay as they are."""
    known = {name: name for name in others}
    for name, reader in READERS.items():
        known |= {name: name, reader.__name__.lower(): name, reader.dataset_dir: name}
    names = []
    for name in given:
        if name.lower() == "all":
            names += [*READERS, *others]
        elif name.lower() in known:
            names.append(known[name.lower()])
        else:
            near = difflib.get_close_matches(name.lower(), [*known, "all"], n=3, cutoff=0)
            raise InputError(f"There is no benchmark {name!r}: the nearest names are {', '.join(near)}.")
    return list(dict.fromkeys(names))


def prepare(name: str, root: str, keep_archives: bool = False, place: str = "") -> list[str]:
    """Make one benchmark ready; what is left to do is returned."""
    reader = READERS[name]
    folder = os.path.join(root, reader.dataset_dir)
    left: list[str] = []
    try:
        mkdir_if_missing(folder)
        with taking_turns(os.path.join(folder, ".prepare.lock"), name):
            asked = place == MIRROR
            if asked:
                left += from_mirror(name, reader, folder, reader.sources)
            failed = from_origins(name, reader, folder, root, keep_archives)
            missing = [source for source, _ in failed if not is_settled(source, reader, folder)]
            if not asked and place != ORIGIN and any(map(are_images, missing)):
                left += from_mirror(name, reader, folder, missing)
                failed = [each for each in failed if each[0] not in missing or not is_settled(each[0], reader, folder)]
            left = list(dict.fromkeys([sentence for _, sentence in failed] + left)) if failed else []
            if any(are_images(source) for source, _ in failed) and reader.by_hand:
                left.append(reader.by_hand.format(folder=folder))
            if not left and not keep_archives:
                shutil.rmtree(downloads(folder), ignore_errors=True)
    except InputError as error:
        left.append(str(error))
    except OSError as error:  # a folder that cannot be written, a full disk
        left.append(f"{error.filename or folder} cannot be written ({error.strerror or error}): choose another --root.")
    return left


def are_images(source: Source) -> bool:
    return isinstance(source, Archive) and not source.spare


def is_settled(source: Source, reader: type[Benchmark], folder: str) -> bool:
    """Whether a source is there, or not needed: what is to spare is read only where CoOp's split file is missing."""
    return is_ready(source, folder) or (source.spare and is_ready(reader.sources[0], folder))


def from_origins(
    name: str, reader: type[Benchmark], folder: str, root: str, keep_archives: bool
) -> list[tuple[Source, str]]:
    """Make each source ready, from the servers that it names; what failed, and why."""
    failed = []
    for source in reader.sources:
        if source.spare and is_settled(source, reader, folder):
            continue
        try:
            print(f"{name}: {source.name}: {make_ready(source, folder, root, keep_archives)}", flush=True)
        except InputError as error:
            failed.append((source, f"{error} Only needed without CoOp's split file." if source.spare else str(error)))
            print(f"{name}: {source.name}: not ready", flush=True)
    return failed


def from_mirror(name: str, reader: type[Benchmark], folder: str, sources: Sequence[Source]) -> list[str]:
    """Those of some sources that are missing and not to spare, from the benchmark's mirror; what failed."""
    missing = [source for source in sources if not source.spare and not is_ready(source, folder)]
    if not reader.mirror or not missing:
        return []
    names = ", ".join(source.name for source in missing)
    try:
        for source in missing:
            if isinstance(source, Archive):
                check_members(source, folder)
        print(f"{name}: {names}: the mirror {reader.mirror.address} is asked", flush=True)
        path, sha256 = fetch_mirror(reader.mirror, folder)
        install_mirror(missing, path, reader.dataset_dir, folder)
        if not reader.mirror.digest:
            remember_hash(sha256, os.path.join(folder, reader.mirror.name))
    except InputError as error:
        print(f"{name}: {names}: the mirror did not help", flush=True)
        return [str(error)]
    print(f"{name}: {names}: from the mirror ({os.path.realpath(path)} may be deleted)", flush=True)
    return []


@contextlib.contextmanager
def taking_turns(path: str, name: str):
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"{name}: another process prepares it, waiting", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def downloads(folder: str) -> str:
    return os.path.join(folder, ".downloads")


def make_ready(source: Source, folder: str, root: str, keep_archives: bool) -> str:
    """Fetch or unpack one source, from what lies there or from its ways in turn; says what was done."""
    if is_ready(source, folder):
        check_known(source, folder)
        return "there already"
    by_hand = os.path.join(folder, source.name)
    if isinstance(source, Archive):
        check_members(source, folder)
        if os.path.isfile(by_hand):
            check_by_hand(source, by_hand)
            install_archive(source, by_hand, folder)
            return "unpacked"
    if isinstance(source, File) and source.copy and not fault_of(os.path.join(root, source.copy), source):
        install_file(os.path.join(root, source.copy), source, folder)
        return f"copied from {source.copy}"
    if not source.ways:
        raise InputError(f"{by_hand} is not there, and cannot be fetched without you (see below).")
    for way in source.ways:
        try:
            obtain(source, way, folder, keep_archives)
            return f"fetched from {web_address(way)}"
        except NoRoom:
            raise
        except InputError as error:
            if way is source.ways[-1]:
                raise
            print(f"{source.name}: {error} The next place is tried.", flush=True)


def obtain(source: Source, way: Way, folder: str, keep_archives: bool) -> None:
    """Fetch a source and put it into place."""
    if isinstance(source, Archive):
        size = way.size or source.gigabytes * 1e9
        unpacked = size * (2 if way.inside else 1)  # pictures hardly shrink in an archive
        check_space(folder, size - come_so_far(way, downloads(folder)) + unpacked, source.name)
    called = os.path.join(folder, source.name)
    path = fetch(way, downloads(folder), called, largest(source, way))
    known = way.digest or (isinstance(source, File) and source.sha256)
    try:
        if not known:
            check_remembered(sha256 := digest_of(path), called)
        if isinstance(source, Archive):
            install_archive(source, path, folder, way.inside)
        else:
            install_file(path, source, folder)
        if not known:
            remember_hash(sha256, called)
    except InputError as error:
        if not way.digest and not isinstance(error, NoRoom):
            os.unlink(path)  # it came, but is something else
        raise
    if not keep_archives:
        os.unlink(path)
