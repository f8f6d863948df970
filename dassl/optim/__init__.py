"""Optimisers and learning-rate schedules by name."""

from .lr_scheduler import build_lr_scheduler as build_lr_scheduler
from .optimizer import build_optimizer as build_optimizer
