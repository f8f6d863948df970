"""PromptKD: Li et al., "PromptKD: Unsupervised Prompt Distillation for Vision-Language Models", CVPR 2024.

A student learns to classify unlabelled images as a teacher does, a PromptSRC run on this or a larger backbone. It
learns visual prompts and a projection of its image features into the teacher's joint space; it has no text side, for
the teacher's text features serve both. As published it is transductive: its unlabelled images are all training
images, those of the new classes too. Inductive, it sees the run's own training images of the run's own classes.

    B images      N patch tokens      C classes      m tokens of a prompt      d joint width of the teacher
"""

import functools

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

import clip
import inert
from clip import InputError
from dassl.data.data_manager import build_data_loader
from dassl.data.datasets import build_dataset
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import load_checkpoint

from .shared.clip_trainer import ClipTrainer
from .shared.deep_prompts import MOST_WORDS, VisualPromptLearner, design_details, from_published
from .shared.finished_run import check_finished, last_checkpoint, record_in
from .shared.prompted_clip import PromptedCLIP
from .shared.prompts import ContextPrompts

WEIGHT = 1000.0  # of the loss, as published,
WEIGHTS = {"FGVCAircraft": 200.0, "OxfordFlowers": 200.0, "DescribableTextures": 200.0}  # but for these data sets


def a_batch(value) -> bool:
    """at least 2, as PromptKD normalises over a batch"""
    return value >= 2


def distillation_loss(logits: Tensor, taught: Tensor, temperature: float) -> Tensor:
    """KL divergence of the student's prediction (B, C) from the teacher's, times T² (eq. 4).

    As published it is divided by B and by C.
    """
    student, teacher = (logits / temperature).log_softmax(1), (taught / temperature).log_softmax(1)
    return temperature**2 * F.kl_div(student, teacher, reduction="sum", log_target=True) / logits.numel()


class Teacher(PromptedCLIP):
    """A frozen CLIP with the prompts of a finished run; their number and depth are those of `state`, its tensors."""

    def __init__(self, clip_model: clip.model.CLIP, state: dict[str, Tensor], words: str):
        super().__init__(clip_model)
        state = {name: value.to(clip_model.logit_scale.device).float() for name, value in state.items()}
        self.ctx = state["ctx"]  # (m, D)
        self.visual, self.text = prompts_of("visual", state), prompts_of("text", state)  # [(m, D)]
        self.words = words if len(self.ctx) <= MOST_WORDS else None

    def learner_edits(self):
        return [clip.VisualPrompts(self.visual)] if self.visual else []

    @torch.no_grad()
    def class_texts(self, classnames: list[str]) -> Tensor:
        """(C, d): of its prompts around any class names."""
        prompts = ContextPrompts(self.clip, classnames, len(self.ctx), words=self.words)
        edits = [clip.TextPrompts(self.text)]
        features = self.clip.encode_prompts(prompts(self.ctx), prompts.end, edits, prompts.lengths, prompts.shared)
        return F.normalize(features.float(), dim=-1)


def prompts_of(side: str, state: dict[str, Tensor]) -> list[Tensor]:
    """The tensors `<side>.0`, `<side>.1`, ... of a learner's state."""
    return [state[f"{side}.{i}"] for i in range(sum(name.startswith(f"{side}.") for name in state))]


class StudentLearner(VisualPromptLearner):
    """`visual` prompts, and the `projection` from the student's joint width to the teacher's (d)."""

    def __init__(self, clip_model: clip.model.CLIP, keys, width: int):
        super().__init__(clip_model, keys, least=0)
        self.frozen_images = False  # the projection changes them, even without prompts
        self.projection = nn.Sequential(
            nn.Linear(clip_model.visual.output_dim, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, width)
        )

    def project(self, features: Tensor) -> Tensor:
        """(..., the student's joint width) -> (..., d), unit rows."""
        rows = self.projection(features.flatten(0, -2).float())
        return F.normalize(rows, dim=-1).view(*features.shape[:-1], -1)


class Student(PromptedCLIP):
    """Image features in the teacher's joint space, and the teacher's text features there."""

    def __init__(self, clip_model, learner: StudentLearner, teacher: Teacher, classnames: list[str]):
        super().__init__(clip_model, learner)
        self.teacher = teacher
        self.register_buffer("text", teacher.class_texts(classnames), persistent=False)

    def image_features(self, images, tokens=False):
        edits = [*self.learner_edits(), *self.image_edits]
        project = self.prompt_learner.project
        if not tokens:
            return project(self.clip.encode_image(images, edits))  # (B, d)
        if self.prompt_learner.training:
            raise InputError(
                "PromptKD normalises image features over a batch while it trains, and patch tokens would spoil that: "
                "set TRAINER.SPOTLIGHTER.JOINT False, which asks for them after training."
            )
        features, patches = self.clip.encode_image(images, edits, tokens=True)
        return project(features), project(patches)  # (B, d), (B, N, d)

    def text_features(self, f=None) -> Tensor:
        return self.text  # (C, d)

    def zero_shot_text(self, classnames, template):
        """(C, d): from the teacher's CLIP without its prompts, as the joint space is the teacher's."""
        return self.teacher.zero_shot_text(classnames, template)


@TRAINER_REGISTRY.register()
class PromptKD(ClipTrainer):
    config_node = "PROMPTKD"
    config_keys = {
        "TEACHER_DIR": "",  # folder of the teacher's run
        "TEACHER_NAME": "ViT-L/14",  # its backbone
        "CTX_INIT": "a photo of a",  # the words in whose place its context stands
        "TRANSDUCTIVE": True,  # distil on all training images of all classes, or on the run's own
        "N_CTX_VISION": 4,  # learned tokens in the student's image encoder
        "PROMPT_DEPTH_VISION": 9,  # image blocks with tokens of their own; 1 is shallow, 0 is none
        "KD_WEIGHT": WEIGHT,  # times the loss; 0 takes the published one for the data set
        "TEMPERATURE": 1.0,  # of both predictions
    }
    config_ranges = {
        "N_CTX_VISION": "at least 0",
        "PROMPT_DEPTH_VISION": "at least 0",
        "KD_WEIGHT": "at least 0",
        "TEMPERATURE": "above 0",
    }
    run_ranges = {**ClipTrainer.run_ranges, "DATALOADER.TRAIN_X.BATCH_SIZE": a_batch}
    learner_name = "VLPromptLearner"

    def design_details(self):
        return design_details(self.keys)

    def build_prompted_clip(self, clip_model):
        teacher = self.build_teacher()
        ours, theirs = (model.visual.input_resolution for model in (clip_model, teacher.clip))
        if ours != theirs:
            raise InputError(
                f"The teacher {self.keys.TEACHER_NAME} takes images of {theirs} pixels and the student of {ours}: "
                "choose a TRAINER.PROMPTKD.TEACHER_NAME with the same image size."
            )
        learner = StudentLearner(clip_model, self.keys, width=teacher.clip.visual.output_dim)
        return Student(clip_model, learner, teacher, self.dm.dataset.classnames)

    def build_teacher(self) -> Teacher:
        keys = self.keys
        path = teacher_checkpoint(keys.TEACHER_DIR, keys.TEACHER_NAME)
        clip_model = self.load_clip(keys.TEACHER_NAME, **as_in_its_run(keys.TEACHER_DIR))
        print(f"Loading the teacher's prompts from {path}")
        return Teacher(clip_model, teacher_prompts(path, keys.TEACHER_NAME, clip_model), keys.CTX_INIT)

    # --- unlabelled images --------------------------------------------------------------------------------

    @property
    def transductive(self) -> bool:
        """Whether training sees images of the classes that are new at test."""
        return self.keys.TRANSDUCTIVE

    def facts(self):
        """For the run's record (upstream Dassl keeps none); reading images waits, as an evaluation needs none."""
        facts = getattr(super(), "facts", dict)() | {"transductive": self.transductive}
        return facts | {"unlabelled": lambda: self.unlabelled.train_x} if self.transductive else facts

    @functools.cached_property
    def unlabelled(self):
        """Transductive training's data set: all images, all classes. Their labels are not used."""
        return whole_dataset(self.cfg)

    @staticmethod
    def unlabelled_images(cfg) -> list:
        """For a run's identity before there is a trainer: what training learns from beside its labelled images."""
        return whole_dataset(cfg).train_x if cfg.TRAINER.PROMPTKD.TRANSDUCTIVE else []

    def before_train(self):
        """An evaluation needs no unlabelled images, so they come in here; `dm` stays the run's own few shots."""
        self.taught_text = self.model.text_features()  # (C, d)
        if self.transductive:
            self.taught_text = self.model.teacher.class_texts(self.unlabelled.classnames)  # (all C, d)
            part = self.cfg.DATALOADER.TRAIN_X
            self.train_loader_x = build_data_loader(
                self.cfg,
                sampler_type=part.SAMPLER,
                data_source=self.unlabelled.train_x,
                batch_size=part.BATCH_SIZE,
                tfm=self.train_loader_x.dataset.transform,
                is_train=True,
            )
        if len(self.train_loader_x.dataset.data_source) < 2:
            raise InputError(
                "PromptKD normalises over a batch of training images, and there is but one image: raise DATASET.NUM_SHOTS, "
                "or add images."
            )
        super().before_train()

    # --- training -----------------------------------------------------------------------------------------

    def compute_loss(self, images, labels):
        teacher, text = self.model.teacher, self.taught_text
        taught = teacher.logits(self.once_per_image("teacher", teacher.image_features, images), text)  # (B, C)
        logits = self.model.logits(self.train_features(images), text)  # (B, C)
        weight = self.keys.KD_WEIGHT or WEIGHTS.get(self.cfg.DATASET.NAME, WEIGHT)
        agreed = (logits.argmax(1) == taught.argmax(1)).float().mean()
        return weight * distillation_loss(logits, taught, self.keys.TEMPERATURE), {"agreed": 100 * agreed.double()}

    # --- checkpoints --------------------------------------------------------------------------------------

    def from_published(self, state):
        """The authors' projection is made of 1 x 1 convolutions, and stands beside the whole image encoder."""
        if any(name.startswith("mid_image_trans.") for name in state):
            raise InputError(
                "This checkpoint is of TextRefiner over PromptKD, whose memory has no part in PromptKD: take one of PromptKD."
            )
        layers = {name: value for name, value in state.items() if name.startswith("VPT_image_trans.conv1.")}
        return from_published(state) | {
            name.replace("VPT_image_trans.conv1", "projection"): value.flatten(1) if value.dim() == 4 else value
            for name, value in layers.items()
        }


def whole_dataset(cfg):
    """A run's data set with all training images of all classes."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATASET.NUM_SHOTS = 0  # all
    cfg.DATASET.SUBSAMPLE_CLASSES = "all"
    cfg.freeze()
    return build_dataset(cfg)


# --- the teacher's run -------------------------------------------------------------------------------------------


def teacher_checkpoint(directory: str, backbone: str) -> str:
    """The checkpoint in a teacher's folder; what cannot teach is refused. The authors' folders hold no record."""
    remedy = "train one with scripts/promptkd/teacher.sh DATASET SEED, and pass its folder"
    if not directory:
        raise InputError(f"TRAINER.PROMPTKD.TEACHER_DIR is empty, and PromptKD needs a teacher: {remedy}.")
    key, record = "TRAINER.PROMPTKD.TEACHER_DIR", record_in(directory)
    check_finished(record, directory, key)
    if (trained_on := record.get("backbone", backbone)) != backbone:
        raise InputError(
            f"The teacher in {directory} was trained on {trained_on}, and TRAINER.PROMPTKD.TEACHER_NAME is "
            f"{backbone}: set it to {trained_on}, or choose another TEACHER_DIR."
        )
    return last_checkpoint(directory, ("VLPromptLearner", "VLPromptLearner_large"), key, remedy)  # so published


def as_in_its_run(directory: str) -> dict:
    """How the teacher's run had its backbone loaded, by its record: `activation` and `size` of `load_clip`."""
    config = record_in(directory).get("config") or {}
    try:
        own, size = config.get("MODEL", {}).get("BACKBONE", {}), config.get("INPUT", {}).get("SIZE", [0])
        return {"activation": own.get("ACT", ""), "size": int(size[0]) if own.get("RESIZE_POSITIONS") else 0}
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise InputError(
            f"The config in the teacher's {directory}/results.json is damaged ({error}): run it again."
        ) from error


def teacher_prompts(path: str, backbone: str, clip_model: clip.model.CLIP) -> dict[str, Tensor]:
    """`ctx`, `text.<i>` and `visual.<i>` of a checkpoint, ours or the authors', if they are whole and fit this CLIP."""
    widths = dict.fromkeys(("ctx", "text"), clip_model.ln_final.weight.shape[0])
    if hasattr(clip_model.visual, "class_embedding"):  # a residual network has no image prompts
        widths["visual"] = clip_model.visual.class_embedding.shape[0]
    state = from_published(inert.weights_of(load_checkpoint(path)))
    state = {name: value for name, value in state.items() if name.split(".")[0] in ("ctx", "text", "visual")}
    sides = [name.split(".")[0] for name in state]
    whole = {"ctx"} | {f"{side}.{i}" for side in ("text", "visual") for i in range(sides.count(side))}
    fitting = [value.shape[-1] == widths.get(side) for side, value in zip(sides, state.values(), strict=True)]
    if state.keys() != whole or not all(fitting):
        raise InputError(
            f"{path} is no teacher for TRAINER.PROMPTKD.TEACHER_NAME {backbone}: it needs a PromptSRC run's ctx, text.0, "
            "text.1, ... and visual.0, visual.1, ... in the widths of that backbone."
        )
    return state
