"""The training loop, and the registry of methods."""

from .build import TRAINER_REGISTRY as TRAINER_REGISTRY
from .build import build_trainer as build_trainer
from .trainer import SimpleNet as SimpleNet
from .trainer import SimpleTrainer as SimpleTrainer
from .trainer import TrainerBase as TrainerBase
from .trainer import TrainerX as TrainerX
from .trainer import TrainerXU as TrainerXU
