"""Files of `torch.save`, read as data: tensors and plain values come out, and nothing that a file names is run.

A pickle is a program, as is a TorchScript archive, and published checkpoints hold more than tensors: a schedule, a Namespace, a NumPy number. Here no
name in a file is looked up, whatever it is, so a file from anywhere may be read.
"""

from .files import Unreadable as Unreadable
from .files import load as load
from .pickles import Inert as Inert
from .weights import in_own_names as in_own_names
from .weights import not_loaded as not_loaded
from .weights import weights_of as weights_of
