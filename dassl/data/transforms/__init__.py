"""From a picture to a tensor."""

from .transforms import INTERPOLATION_MODES as INTERPOLATION_MODES
from .transforms import build_transform as build_transform
