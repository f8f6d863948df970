"""The data sets. Every module of this package is imported, so a new data set is one new file, and one in configs/; a file
that cannot be imported is named when it is asked for, and stops none of the others.
"""

from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import import_modules

COMMANDS = ("prepare", "verify")  # python -m datasets.prepare: a run needs none of it

import_modules(__name__, DATASET_REGISTRY, passing_over=COMMANDS)
