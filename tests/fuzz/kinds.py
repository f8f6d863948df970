"""All kinds of input."""

from .backbones import Backbones
from .caches import Caches
from .checkpoints import Checkpoints
from .configs import Configs
from .lists import Lists
from .options import Options
from .records import Records
from .results import Results
from .splits import Splits

KINDS = {
    kind.name: kind for kind in (Results, Configs, Options, Records, Caches, Splits, Checkpoints, Lists, Backbones)
}
