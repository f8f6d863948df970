"""The error for what a user gave and CLIP cannot use, and the check that all image encoders share."""


class InputError(ValueError):
    """One sentence that names the thing and the remedy."""


class UnknownName(InputError, KeyError):
    """A name that is in no table; also a KeyError, as code that looks names up in a dict expects."""

    __str__ = ValueError.__str__  # a KeyError would show its sentence in quotes


def check_images(image, size: int) -> None:
    """Refuse a tensor that is no batch of images (B, 3, size, size)."""
    if image.shape[1:] != (3, size, size):
        raise InputError(
            f"The images have shape {tuple(image.shape)} and this backbone takes (B, 3, {size}, {size}): "
            f"give a batch of RGB images resized to {size} x {size}."
        )
