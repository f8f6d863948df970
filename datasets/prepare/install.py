"""Put into place what has come, once it is seen to be what it should be."""

import os
import shutil

from dassl.utils import InputError, is_picture, mkdir_if_missing, read_json

from ..sources import Archive, File, Source
from ..splits import PARTS
from .download import check_space, unpack, what_is_wrong


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
    target = os.path.join(folder, file.name)
    shutil.copyfile(path, f"{target}.new")
    if os.path.isfile(target):
        print(f"{target} is damaged ({fault_of(target, file)}): kept as {file.name}.before")
        os.replace(target, f"{target}.before")
    os.replace(f"{target}.new", target)


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


def install_archive(archive: Archive, path: str, folder: str, inside: str = "") -> None:
    """Unpack beside the target, check what has come, move it into place: a kill leaves nothing that looks whole."""
    work = os.path.join(folder, ".unpacking")
    shutil.rmtree(work, ignore_errors=True)  # what a killed run left; nobody else is here, because of the lock
    try:
        check_space(folder, os.path.getsize(path), archive.name)
        contents = unpack_imagenet(archive, folder, work) if archive.with_names else unpack_nested(path, inside, work)
        found = {member: os.path.join(contents, *name.split("/")) for member, name in archive.members.items()}
        for member, name in archive.members.items():
            if not os.path.exists(found[member]):
                raise InputError(f"{path} is not the right archive: it holds no {name}.")
        for member, images in archive.images.items():
            if (count := count_images(found[member])) < images:
                raise InputError(f"{path} is not the whole archive: it holds {count:,} of {images:,} images.")
        for member, unpacked in found.items():
            target = os.path.join(folder, member)
            if not os.path.exists(target) or (os.path.isdir(target) and not os.listdir(target)):
                mkdir_if_missing(os.path.dirname(target))
                os.rename(unpacked, target)
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
    """Pictures in a folder and the folders in it; hidden ones are passed over, and none is opened."""
    if not os.path.isdir(path):
        return 0
    count, folders = 0, [path]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    folders.append(entry.path)
                else:
                    count += is_picture(entry.name)
    return count
