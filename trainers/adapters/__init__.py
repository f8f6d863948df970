"""Adapters: methods that leave both encoders of CLIP and its prompts as they are, and learn, or compute from the shots,
something behind them. Each is one file here, found as those of `trainers` are: residual adapters of features, classifiers
and probes, caches, and what needs no training.
"""

from dassl.engine import TRAINER_REGISTRY

try:
    from dassl.utils import import_modules
except ImportError:  # upstream Dassl has no such function: a train.py there imports the files it wants by name
    pass
else:
    import_modules(__name__, TRAINER_REGISTRY)
