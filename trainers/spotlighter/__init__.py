"""Spotlighter: Gao et al., "Spotlighter: Revisiting Prompt Tuning from a Representative Mining View",
Findings of EMNLP 2025 (arXiv 2509.00905); the equations where the paper leaves room are this project's.

Each visual token gets an activation from the image's own belief and from a bank of class prototypes; the
R = 5 strongest, in two levels, and the bank correct what the host's prompts say. The host (CoOp or any other
registered method) is trained as its authors train it; then 21 scalars are fitted on held-out shots. The bank
is no parameter: it is computed from the training shots in closed form, and saved as buffers.

Two more forms of selection live in the image encoder, without a trained parameter: tokens that score low are
dropped between its blocks (KEEP, `drop.py`), and the regions that it attends to most are looked at again
at full size (ZOOM, `zoom.py`). What each part is worth was measured (benchmarks/README.md): the bank and the second
look carry the gain, while tokens chosen behind the last block add little, for by then the class token knows them.
So a budget (BUDGET, `plan.py`) spends what zero-shot CLIP costs, or any other share, on the looks that held-out shots choose.

    over_host   the trainer: a host, and the layer over it      host    what a host must offer
    model       a prompted CLIP with all that is put over it    checks  what the config keys may be
    head        the equations                                   trained the 21 scalars and the mapping modules
    classes     the classes asked for, for a prediction
    bank        prototypes and ridges of the shots              fit     the scalars, and how to look again
    drop        dropping tokens, mapping attention              survey  what a drop can know beforehand
    plan        looks that a budget pays for                    cost    what a look costs, counted
    budgeted    a prompted CLIP that looks as a plan says       choice  which plan, by held-out shots
    zoom        windows to look at again                        look    what a picture shows (drawn in `picture`)
    paper       the form that the paper's figure draws: HEAD paper, a head and how it is trained
"""

from dassl.engine import TRAINER_REGISTRY, TrainerX

from ..shared.config_keys import ConfigKeys
from ..shared.plug_in import host_of
from .bank import Shots, remember
from .checks import are_blocks
from .classes import Classes
from .drop import SCORES
from .fit import choose_zoom, fit_scalars
from .head import Bank, SpotlighterHead
from .model import SpotlitCLIP
from .over_host import SpotlighterOverHost, over
from .paper import PaperHead, PaperOverHost
from .trained import Scalars
from .zoom import Zoom

__all__ = [
    "Bank",
    "Classes",
    "Keys",
    "PaperHead",
    "PaperOverHost",
    "Scalars",
    "Shots",
    "Spotlighter",
    "SpotlighterHead",
    "SpotlighterOverHost",
    "SpotlitCLIP",
    "Zoom",
    "choose_zoom",
    "fit_scalars",
    "over",
    "remember",
]


class Keys(ConfigKeys):
    config_node = "SPOTLIGHTER"
    config_keys = {
        "HOST": "CoOp",  # any registered method with prompts
        "HOST_DIR": "",  # folder of a finished run of the host, whose prompts are taken instead of trained
        "HEAD": "lite",  # lite: the 21 scalars; full: with the paper's mapping modules; paper: the paper's form (paper.py)
        "FIT": True,  # False keeps the scalars' initial values
        "FIT_UNSEEN": 0.25,  # share of the fit's steps in which tau_b learns from classes left out of the bank; 0: none
        "JOINT": False,  # train the head in step with the host, whose prompts then feel it
        "R": 5,  # tokens kept by the head
        "K": 5,  # prototypes a class
        "LEVELS": 2,  # ranks 1-3 and the rest apart, or 1: all together
        "KEEP": 1.0,  # share of living patch tokens kept at each drop inside the encoder
        "DROP_AFTER": (1,),  # blocks, counted from 1, after which tokens are dropped
        "SCORE": "probe",  # by which score: probe, attention, prototypes, random; see drop.py
        "GRID": 0.75,  # share of the kept places spread evenly, whatever the score
        "ZOOM": 0,  # at most so many regions looked at again (0, 1, 3); held-out shots choose
        "FUSE": 0.1,  # HEAD paper: share of the representative tokens in image and text features
        "MOMENTUM": 0.8,  # HEAD paper: how much of the memory stays when it is written
        "BUDGET": 0.0,  # cost of an image in units of zero-shot CLIP's; held-out shots choose how it is spent; 0: by KEEP and ZOOM
        "LOSS": {
            "PULL": 1.0,  # times the squared distance from the initial values
            "LEVELS": 0.0,  # times the cross-entropy of the level vectors alone
        },
    }
    config_ranges = {
        "HEAD": ("lite", "full", "paper"),
        "FIT_UNSEEN": "at least 0 and at most 1",
        "R": "at least 1",
        "K": "at least 1",
        "LEVELS": (1, 2),
        "KEEP": "above 0 and at most 1",
        "DROP_AFTER": are_blocks,
        "SCORE": tuple(SCORES),
        "GRID": "at least 0 and at most 1",
        "ZOOM": (0, 1, 3),
        "FUSE": "at least 0 and at most 1",
        "MOMENTUM": "at least 0 and at most 1",
        "BUDGET": "at least 0",
        "LOSS.PULL": "at least 0",
        "LOSS.LEVELS": "at least 0",
    }


@TRAINER_REGISTRY.register()
def Spotlighter(cfg) -> TrainerX:
    """The trainer: the class of the registered method that `TRAINER.SPOTLIGHTER.HOST` names, and the layer over it."""
    layer = PaperOverHost if cfg.TRAINER.SPOTLIGHTER.HEAD == "paper" else None
    return over(host_of(cfg, "Spotlighter"), layer)(cfg)


Spotlighter.extend_cfg, Spotlighter.ranges = Keys.extend_cfg, Keys.ranges
Spotlighter.host_key = "TRAINER.SPOTLIGHTER.HOST"  # whose config keys are needed too
