"""Put into place what has come, once it is seen to be what it should be."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator

from dassl.utils import InputError, is_picture, mkdir_if_missing, read_json

from ..sources import Archive, File, Source
from ..splits import PARTS, is_folder
from .download import check_space, digest_of, remembered_hash, what_is_wrong
from .unpack import unpack


def is_ready(source: Source, folder: str) -> bool:
    if isinstance(source, File):
        path = os.path.join(folder, source.name)
        return os.path.isfile(path) and not fault_of(path, source)
    return all(os.path.exists(os.path.join(folder, member)) for member in source.members) and all(
        count_images(os.path.join(folder, member)) >= images for member, images in source.images.items()
    )


# --- single files -----------------------------------------------------------------------------------------------


def install_file(path: str, file: File, folder: str) -> None:
    """Copy a file into place in one step, if it is what it should be; a former one is kept as `.before`."""
    if fault := fault_of(path, file):
        raise InputError(f"{file.name} is not what it should be ({fault}).")
    if not says_what_is_known(path, file):
        raise InputError(f"{file.name} is another list than CoOp's (its SHA-256 is {digest_of(path)}).")
    target = os.path.join(folder, file.name)
    shutil.copyfile(path, f"{target}.new")
    if os.path.isfile(target):
        print(f"{target} is damaged ({fault_of(target, file)}): kept as {file.name}.before")
        os.replace(target, f"{target}.before")
    os.replace(f"{target}.new", target)


def check_known(source: Source, folder: str) -> None:
    """Refuse to call a list that is there CoOp's where it is known to be another; it is the user's, and stays."""
    path = os.path.join(folder, source.name)
    if isinstance(source, File) and not says_what_is_known(path, source):
        raise InputError(
            f"{path} is another list than CoOp's (its SHA-256 is {digest_of(path)}): move it away and run this again for "
            "CoOp's, or keep it for results that are not comparable with published ones."
        )


def says_what_is_known(path: str, file: File) -> bool:
    """Whether the SHA-256 of a file is the known one, as it is or with JSON written as CoOp writes it; True if none is."""
    if not file.sha256 or digest_of(path) == file.sha256:
        return True
    as_coop = json.dumps(read_json(path), indent=4, separators=(",", ": "))
    return hashlib.sha256(as_coop.encode()).hexdigest() == file.sha256


def fault_of(path: str, file: File) -> str:
    """What is wrong with a file; empty if nothing is."""
    if not os.path.isfile(path):
        return "it is missing"
    for way in file.ways:
        if way.digest and (wrong := what_is_wrong(path, way)):
            return wrong
    try:
        found = count_entries(path, file.name) if file.entries else file.entries
    except (ValueError, TypeError, KeyError) as error:
        return f"it cannot be read: {error!r}"
    return "" if found == file.entries else f"{found} entries in place of {file.entries}"


def count_entries(path: str, name: str) -> int | tuple[int, ...]:
    """Lines of a text, keys of a dictionary, or rows of a split file's three parts, as the name says."""
    if not name.endswith(".json"):
        with open(path, encoding="utf-8") as file:
            return sum(bool(line.strip()) for line in file)
    content = read_json(path)
    return tuple(len(content[part]) for part in PARTS) if "train" in content else len(content)


# --- archives ---------------------------------------------------------------------------------------------------


def check_members(archive: Archive, folder: str) -> None:
    """Refuse to touch an image folder that is there, but not whole: it is the user's."""
    for member, images in archive.images.items():
        path = os.path.join(folder, member)
        if os.path.isdir(path) and os.listdir(path) and (found := count_images(path)) < images:
            raise InputError(f"{path} holds {found:,} of {images:,} images: move it away, then run this again.")


def check_by_hand(archive: Archive, path: str) -> None:
    for way in archive.ways:
        if way.digest and not way.inside and (wrong := what_is_wrong(path, way)):
            raise InputError(f"{path} is damaged ({wrong}): fetch it again, or remove it.")
    if has_changed(path):
        raise InputError(f"{path} has changed since it came (see {archive.name}.sha256): fetch it again, or remove it.")


def has_changed(path: str) -> bool:
    """Whether a file that is there is another than the one that came, whose SHA-256 was kept then."""
    return os.path.isfile(path) and bool(kept := remembered_hash(path)) and digest_of(path) != kept


def install_archive(archive: Archive, path: str, folder: str, inside: str = "") -> None:
    """Unpack beside the target, check what has come, move it into place: a kill leaves nothing that looks whole."""
    work = os.path.join(folder, ".unpacking")
    shutil.rmtree(work, ignore_errors=True)  # what a killed run left; nobody else is here, because of the lock
    try:
        check_space(folder, os.path.getsize(path), archive.name)
        contents = unpack_imagenet(archive, folder, work) if archive.with_names else unpack_nested(path, inside, work)
        found = {member: os.path.join(contents, *name.split("/")) for member, name in archive.members.items()}
        put_into_place(archive, found, path, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def put_into_place(archive: Archive, found: dict[str, str], path: str, folder: str) -> None:
    """Move members (member: where it was unpacked) into the benchmark's folder, once all are seen to be whole."""
    for name in found.values():
        if not os.path.exists(name):
            raise InputError(f"{path} is not the right archive: it holds no {os.path.basename(name)}.")
    for member, images in archive.images.items():
        if (count := count_images(found[member])) < images:
            raise InputError(f"{path} is not the whole archive: it holds {count:,} of {images:,} images.")
    for member, unpacked in found.items():
        target = os.path.join(folder, member)
        if not os.path.exists(target) or (os.path.isdir(target) and not os.listdir(target)):
            mkdir_if_missing(os.path.dirname(target))
            os.rename(unpacked, target)


def install_mirror(sources: list[Source], path: str, name: str, folder: str) -> None:
    """Unpack an archive of a benchmark's whole folder, called `name`, and put what is asked for of it into place."""
    work = os.path.join(folder, ".unpacking")
    shutil.rmtree(work, ignore_errors=True)
    try:
        unpack(path, work)
        there = os.path.join(work, name) if os.path.isdir(os.path.join(work, name)) else work
        for source in sources:
            if isinstance(source, Archive):
                put_into_place(source, {member: os.path.join(there, member) for member in source.members}, path, folder)
            elif os.path.isfile(os.path.join(there, source.name)):
                install_file(os.path.join(there, source.name), source, folder)
            else:
                raise InputError(f"{path} holds no {source.name}.")
    finally:
        shutil.rmtree(work, ignore_errors=True)


def unpack_nested(path: str, inside: str, work: str) -> str:
    contents = os.path.join(work, "outer")
    unpack(path, contents)
    if not inside:
        return contents
    inner = os.path.join(contents, *inside.split("/"))
    if not os.path.isfile(inner):
        raise InputError(f"{path} is not the right archive: it holds no {inside}.")
    unpack(inner, os.path.join(work, "inner"))
    return os.path.join(work, "inner")


def unpack_imagenet(archive: Archive, folder: str, work: str) -> str:
    """torchvision knows how: an archive for each training class, and validation images sorted by the devkit's list."""
    from torchvision.datasets import imagenet

    os.makedirs(work)
    for name in (archive.name, *archive.with_names):
        path = os.path.join(folder, name)
        if not os.path.isfile(path):
            raise InputError(f"{path} is not there (see below).")
        os.symlink(path, os.path.join(work, name))
    try:
        imagenet.parse_devkit_archive(work)
        imagenet.parse_val_archive(work)
        imagenet.parse_train_archive(work)
    except RuntimeError as error:  # a wrong MD5 sum
        raise InputError(f"ImageNet's archives in {folder} are damaged ({error}): fetch them again.") from error
    return work


def count_images(path: str) -> int:
    return sum(1 for _ in pictures_under(path))


def pictures_under(path: str) -> Iterator[str]:
    """Paths of the pictures in a folder and the folders in it; hidden ones are passed over, and none is opened."""
    folders, seen = [path] if os.path.isdir(path) else [], set()
    while folders:
        folder = folders.pop()
        if (real := os.path.realpath(folder)) in seen:  # a link may lead back up
            continue
        seen.add(real)
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if is_folder(entry):
                    folders.append(entry.path)
                elif is_picture(entry.name):
                    yield entry.path
