"""From predictions to results."""

from .build import EVALUATOR_REGISTRY as EVALUATOR_REGISTRY
from .build import build_evaluator as build_evaluator
from .evaluator import Classification as Classification
from .evaluator import EvaluatorBase as EvaluatorBase
