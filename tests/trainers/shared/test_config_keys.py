"""Config keys as data (../../../trainers/shared/config_keys.py): every method's keys, with the default, type and place of each."""

import pytest
from yacs.config import CfgNode

import trainers as trainers
from dassl.config import get_cfg_default
from dassl.engine import TRAINER_REGISTRY
from trainers.shared.config_keys import ConfigKeys

ZERO_SHOT = {"ZSCLIP": {"PREC": "auto"}}
INSTALLED = {
    "ATPrompt": {"ATPROMPT": {"N_CTX": 2, "ATTRIBUTES": "", "PROMPT_DEPTH": 0, "PREC": "auto"}},
    "CLAP": {"CLAP": {"CONSTRAINT": "l2", "PREC": "auto"}},
    "CLIPAdapter": {"CLIPADAPTER": {"RATIO": 0.2, "REDUCTION": 4, "PREC": "auto"}},
    "CLIPFit": {"CLIPFIT": {"W": 8.0, "PREC": "auto"}},
    "CLIPLoRA": {"CLIPLORA": {"R": 2, "ALPHA": 1.0, "DROPOUT": 0.25, "PREC": "auto"}},
    "CoCoOp": {"COCOOP": {"N_CTX": 16, "CTX_INIT": "", "PREC": "auto"}},
    "CoOp": {"COOP": {"N_CTX": 16, "CSC": False, "CTX_INIT": "", "CLASS_TOKEN_POSITION": "end", "PREC": "auto"}},
    "DePT": {"DEPT": {"HOST": "CoOp", "WEIGHT": 0.7, "LR_TIMES": 6.5}},
    "GDA": {"GDA": {"ALPHA": 0.1, "AUGMENT": 10, "SHRINK": True, "PREC": "auto"}},
    "IVLP": {"IVLP": {"N_CTX_VISION": 2, "N_CTX_TEXT": 2, "CTX_INIT": "a photo of a", "PROMPT_DEPTH_VISION": 9, "PROMPT_DEPTH_TEXT": 9, "PREC": "auto"}},
    "KgCoOp": {"KGCOOP": {"N_CTX": 4, "CTX_INIT": "a photo of a", "W": 8.0, "PREC": "auto"}},
    "LinearProbe": {"LINEARPROBE": {"C": 0.316, "SEARCH": False, "PREC": "auto"}},
    "MMA": {"MMA": {"TEXT_CTX_INIT": "a photo of a", "ADAPTER_START": 5, "ADAPTER_END": 12, "ADAPTER_DIM": 32, "ADAPTER_SCALE": 0.001, "PREC": "auto"}},
    "MMRL": {"MMRL": {"N_REP_TOKENS": 5, "REP_DIM": 512, "REP_LAYERS": (6, 7, 8, 9, 10, 11, 12), "ALPHA": 0.7, "LOGIT_SCALE": 100.0, "REG_WEIGHT": 1.0, "PREC": "auto"}},
    "MMRLpp": {"MMRLPP": {"N_REP_TOKENS": 5, "REP_DIM": 512, "REP_LAYERS": (6, 7, 8, 9, 10, 11, 12), "ALPHA": 0.7, "LOGIT_SCALE": 100.0, "REG_WEIGHT": 1.0, "BETA": 0.9, "RES_LORA_DIM": 4, "PROJ_LORA_DIM": 64, "PREC": "auto"}},
    "MaPLe": {"MAPLE": {"N_CTX": 2, "CTX_INIT": "a photo of a", "PROMPT_DEPTH": 9, "PREC": "auto"}},
    "ProGrad": {"PROGRAD": {"N_CTX": 16, "CTX_INIT": True, "LAMBDA": 1.0, "T": 1.0, "PREC": "auto"}},
    "PromptKD": {"PROMPTKD": {"TEACHER_DIR": "", "TEACHER_NAME": "ViT-L/14", "CTX_INIT": "a photo of a", "TRANSDUCTIVE": True, "N_CTX_VISION": 4, "PROMPT_DEPTH_VISION": 9, "KD_WEIGHT": 1000.0, "TEMPERATURE": 1.0, "PREC": "auto"}},
    "PromptSRC": {"PROMPTSRC": {"N_CTX_VISION": 4, "N_CTX_TEXT": 4, "CTX_INIT": "a photo of a", "PROMPT_DEPTH_VISION": 9, "PROMPT_DEPTH_TEXT": 9, "TEXT_LOSS_WEIGHT": 25.0, "IMAGE_LOSS_WEIGHT": 10.0, "GPA_MEAN": 15.0, "GPA_STD": 1.0, "PREC": "auto"}},
    "Spotlighter": {"SPOTLIGHTER": {"HOST": "CoOp", "HOST_DIR": "", "HEAD": "lite", "FIT": True, "FIT_UNSEEN": 0.25, "JOINT": False, "R": 5, "K": 5, "LEVELS": 2, "KEEP": 1.0, "DROP_AFTER": (1,), "SCORE": "probe", "GRID": 0.75, "ZOOM": 0, "FUSE": 0.1, "MOMENTUM": 0.8, "BUDGET": 0.0, "LOSS": {"PULL": 1.0, "LEVELS": 0.0}}},
    "TaskRes": {"TASKRES": {"RESIDUAL_SCALE": 0.5, "ENHANCED_BASE": "", "PREC": "auto"}},
    "TCP": {"TCP": {"N_CTX": 4, "CTX_INIT": "", "BLOCK": 9, "W": 8.0, "PREC": "auto"}},
    "TextRefiner": {"TEXTREFINER": {"N_CTX": 4, "CTX_INIT": "a photo of a", "CSC": False, "CLASS_TOKEN_POSITION": "end", "MEMORY_SIZE": 25, "ALPHA": 0.2, "MOMENTUM": 0.8, "BALANCE": 50.0, "DISTILL": 20.0, "PREC": "auto"}},
    "TipAdapter": {"TIPADAPTER": {"ALPHA": 1.17, "BETA": 1.0, "AUGMENT": 10, "SEARCH": (7.0, 3.0), "PREC": "auto"}},
    "TipAdapterF": {"TIPADAPTERF": {"ALPHA": 1.17, "BETA": 1.0, "AUGMENT": 10, "SEARCH": (7.0, 3.0), "PREC": "auto"}},
    "VPT": {"VPT": {"N_CTX_VISION": 8, "CTX_INIT": "a photo of a", "PROMPT_DEPTH_VISION": 12, "PREC": "auto"}},
    "ZeroshotCLIP": ZERO_SHOT,
    "ZeroshotCLIP2": ZERO_SHOT,
}  # fmt: skip


def installed(method) -> dict:
    """What a method adds to cfg.TRAINER, as plain dicts."""
    cfg = get_cfg_default()
    before = set(cfg.TRAINER)
    method.extend_cfg(cfg)
    return {node: as_dict(keys) for node, keys in cfg.TRAINER.items() if isinstance(keys, dict) and node not in before}


def as_dict(keys) -> dict:
    assert isinstance(keys, CfgNode)
    return {key: as_dict(value) if isinstance(value, dict) else value for key, value in keys.items()}


def test_every_method_is_listed():
    ours = [name for name in TRAINER_REGISTRY.registered_names() if TRAINER_REGISTRY.get(name).__module__.startswith("trainers.")]  # fmt: skip
    assert sorted(ours) == sorted(INSTALLED)


@pytest.mark.parametrize("name", INSTALLED)
def test_keys(name):
    """As text, so that 8.0 is not 8, (1,) not [1], and the order counts."""
    assert repr(installed(TRAINER_REGISTRY.get(name))) == repr(INSTALLED[name])


@pytest.mark.parametrize("name", INSTALLED)
def test_the_key_of_all(name):
    """TRAINER.MEMORY_MB comes with whatever has a text encoder; a plug-in's host brings it."""
    cfg = get_cfg_default()
    method = TRAINER_REGISTRY.get(name)
    method.extend_cfg(cfg)
    assert cfg.TRAINER.get("MEMORY_MB") == (None if hasattr(method, "host_key") else 0.0)


def test_runs_do_not_share_their_keys():
    class Method(ConfigKeys):
        config_node = "METHOD"
        config_keys = {"LOSS": {"PULL": 1.0}, "BLOCKS": [1]}

    first, second = get_cfg_default(), get_cfg_default()
    Method.extend_cfg(first)
    first.TRAINER.METHOD.LOSS.PULL = 2.0
    first.TRAINER.METHOD.BLOCKS.append(2)
    Method.extend_cfg(second)
    assert as_dict(second.TRAINER.METHOD) == {"LOSS": {"PULL": 1.0}, "BLOCKS": [1]}
