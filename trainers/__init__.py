"""The methods. Every module of this package is imported, so a new method is one new file.

A trainer file written for Dassl and CoOp's `clip` goes in unchanged; as it declares no config keys,
its defaults stand in `configs/trainers/<registered name>/defaults.yaml`.
"""

import importlib
import pkgutil

from clip import InputError as InputError

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
