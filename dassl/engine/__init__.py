"""The training loop, and the registry of methods."""

from typing import TYPE_CHECKING

from dassl.utils import late_imports

from .build import TRAINER_REGISTRY as TRAINER_REGISTRY
from .build import build_trainer as build_trainer

if TYPE_CHECKING:
    from .base import TrainerBase as TrainerBase
    from .net import SimpleNet as SimpleNet
    from .trainer import SimpleTrainer as SimpleTrainer
    from .trainer import TrainerX as TrainerX
    from .trainer import TrainerXU as TrainerXU

__getattr__, __dir__, __all__ = late_imports(__name__)
