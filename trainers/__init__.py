"""The methods. Every module of this package is imported, so a new method is one new file; one that fails to import is
named when it is asked for, and stops none of the others. Adapters, which are many and small, have a folder of their own,
`adapters`, where the same holds.

A trainer file written for Dassl and CoOp's `clip` goes in unchanged; as it declares no config keys,
its defaults stand in `configs/trainers/<registered name>/defaults.yaml`. Packages that it brings, such as a `clip` of its
own, stand in a folder of its name. It may be called as any file or folder here, and register any name: it is the one that is
taken then (shared/ours.py).
"""

from clip import InputError as InputError
from dassl.engine import TRAINER_REGISTRY

try:
    from dassl.utils import find_what_is_brought, import_modules
except ImportError:  # upstream Dassl has no such function: a train.py there imports the files it wants by name
    pass
else:
    from .shared.ours import gives_way

    find_what_is_brought(__name__)
    TRAINER_REGISTRY.gives_way = gives_way
    import_modules(__name__, TRAINER_REGISTRY)
