"""CoOp: Zhou et al., "Learning to Prompt for Vision-Language Models", IJCV 2022.

The words around a class name are learned vectors, shared by all classes or one set for each (CSC); CLIP is frozen.
"""

from dassl.engine import TRAINER_REGISTRY

from .shared.clip_trainer import ClipTrainer
from .shared.prompts import POSITIONS, ContextLearner
from .shared.published_names import CustomCLIP, PromptLearner, TextEncoder, load_clip_to_cpu  # noqa: F401  for other code


@TRAINER_REGISTRY.register()
class CoOp(ClipTrainer):
    config_node = "COOP"
    config_keys = {
        "N_CTX": 16,  # context tokens, where CTX_INIT is empty
        "CSC": False,  # a context for each class
        "CTX_INIT": "",  # words to start from, such as "a photo of a"
        "CLASS_TOKEN_POSITION": "end",  # end, middle, front
    }
    config_ranges = {
        "N_CTX": "at least 1",
        "CLASS_TOKEN_POSITION": POSITIONS,
    }

    def build_learner(self, clip_model, classnames):
        return ContextLearner(clip_model, classnames, self.keys)
