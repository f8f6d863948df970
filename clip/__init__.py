"""CLIP in OpenAI's names and API, from scratch, with one extension point: `Edit`."""

from . import clip as clip
from . import facts as facts
from . import hub as hub
from . import model as model
from .checkpoint import load_state_dict as load_state_dict
from .checkpoint import save_npz as save_npz
from .clip import available_models as available_models
from .clip import find_weights as find_weights
from .clip import load as load
from .clip import load_weights as load_weights
from .clip import place_of as place_of
from .clip import sha256_of_model as sha256_of_model
from .clip import tokenize as tokenize
from .edits import Edit as Edit
from .edits import TextPrompts as TextPrompts
from .edits import VisualPrompts as VisualPrompts
from .errors import InputError as InputError
from .model import build_model as build_model
from .model import take_prompts as take_prompts
