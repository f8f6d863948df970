"""Classes that a user names, in place of those that a run was trained on."""

import os
from collections import Counter
from pathlib import Path

from dassl.errors import InputError

HALVES = ("base", "new", "all")


def classes_of(text: str) -> list[str] | str:
    """Names from a list with commas, or from the lines of a file; base, new and all stay what they are."""
    if not text or text in HALVES:
        return text
    where, names = "--classes", text.split(",")
    if os.path.isfile(text):
        where = text
        try:
            names = Path(text).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"The classes in {text} cannot be read ({error}): write one a line, in UTF-8.") from error
        names = [name for name in names if name.strip()]
    names = [name.strip() for name in names]
    if not all(names):
        raise InputError(f"{where} has an empty name: take out a comma.")
    if twice := next((name for name, count in Counter(names).items() if count > 1), None):
        raise InputError(f"{where} names {twice!r} twice: take one out.")
    if len(names) < 2:
        what = f"names {len(names)} classes" if where == text else f"{text!r} is one name, and no file is called so"
        raise InputError(f"{where} {what}: name two classes or more, or a file that lists them, one a line.")
    return names
