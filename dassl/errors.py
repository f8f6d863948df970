"""The error for what a user gave and a run cannot use."""


class InputError(ValueError):
    """One sentence that names the thing and the remedy."""
