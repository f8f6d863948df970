"""From a picture to a tensor."""

from typing import TYPE_CHECKING

from dassl.utils import late_imports

from .transforms import build_transform as build_transform
from .transforms import plain_transform as plain_transform

if TYPE_CHECKING:
    from .steps import INTERPOLATION_MODES as INTERPOLATION_MODES

__getattr__, __dir__, __all__ = late_imports(__name__)
