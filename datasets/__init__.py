"""The data sets. Every module of this package is imported, so a new data set is one new file, and one in configs/."""

import importlib
import pkgutil

COMMANDS = ("prepare", "verify")  # python -m datasets.prepare: a run needs none of it

for _module in pkgutil.iter_modules(__path__):
    if _module.name not in COMMANDS:
        importlib.import_module(f"{__name__}.{_module.name}")
