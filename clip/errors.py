"""The error for what a user gave and CLIP cannot use."""


class InputError(ValueError):
    """One sentence that names the thing and the remedy."""


class UnknownName(InputError, KeyError):
    """A name that is in no table; also a KeyError, as code that looks names up in a dict expects."""

    __str__ = ValueError.__str__  # a KeyError would show its sentence in quotes
