"""Small tools; nothing here knows a method, a data set or the engine."""

from typing import TYPE_CHECKING

from ..errors import InputError as InputError
from .brought import find_what_is_brought as find_what_is_brought
from .discover import import_modules as import_modules
from .files import check_folder as check_folder
from .files import check_isfile as check_isfile
from .files import is_picture as is_picture
from .files import listdir_nohidden as listdir_nohidden
from .files import mkdir_if_missing as mkdir_if_missing
from .files import read_json as read_json
from .files import real_paths as real_paths
from .files import replace_file as replace_file
from .files import write_json as write_json
from .late import late_imports as late_imports
from .logger import Logger as Logger
from .logger import setup_logger as setup_logger
from .machine import cores as cores
from .registry import Registry as Registry
from .registry import check_availability as check_availability
from .registry import get_most_similar_str_to_a_from_b as get_most_similar_str_to_a_from_b

if TYPE_CHECKING:  # these need PyTorch, NumPy or Pillow, and are imported when a name is asked for
    from .meters import AverageMeter as AverageMeter
    from .meters import MetricMeter as MetricMeter
    from .readings import Readings as Readings
    from .tools import collect_env_info as collect_env_info
    from .tools import read_image as read_image
    from .tools import set_random_seed as set_random_seed
    from .tools import tolist_if_not as tolist_if_not
    from .torchtools import count_num_param as count_num_param
    from .torchtools import device_of_run as device_of_run
    from .torchtools import load_checkpoint as load_checkpoint
    from .torchtools import load_pretrained_weights as load_pretrained_weights
    from .torchtools import open_all_layers as open_all_layers
    from .torchtools import open_specified_layers as open_specified_layers
    from .torchtools import resume_from_checkpoint as resume_from_checkpoint
    from .torchtools import save_checkpoint as save_checkpoint

__getattr__, __dir__, __all__ = late_imports(__name__)
