"""The error for what a user gave and CLIP cannot use."""


class InputError(ValueError):
    """One sentence that names the thing and the remedy."""
