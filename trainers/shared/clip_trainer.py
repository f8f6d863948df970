"""The trainer that every method here stands on: its data flow, one training step, saving what was learned.

A method adds its learner, its loss and its config keys (see `coop.py`, which is little more than that).
Only the public API of Dassl is used, so these files run on upstream Dassl too.
"""

import contextlib
import difflib
import os
from collections import Counter

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

import clip
import inert
from clip import InputError
from dassl.data.data_manager import build_data_loader
from dassl.engine import TrainerX
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import load_checkpoint, load_pretrained_weights

from .compiled import CompiledEncoders, check_way
from .config_keys import ConfigKeys, OwnKeyError
from .features import ReadsFeatures, of_features, random_numbers_kept
from .memory import LEAST_MB, MB, Division, Need, divide, of_images, warn_of
from .plug_in import rows_of
from .prompted_clip import PRECISIONS, PromptedCLIP, check_image_size, load_clip, resolve_precision, warn_of_pixels
from .prompts import Learner, readable, same_texts, template_of, zero_shot_text_features

SHOWN = 10  # class names in a warning
VIEWS_SEED = 2**40  # of views, beside the run's seed
FIXED_TRANSFORMS = {"normalize", "instance_norm", "center_crop"}  # of INPUT.TRANSFORMS, those without chance


def one_version(value) -> bool:
    """1, as the method takes one version of a picture"""
    return value == 1


def check_features(name: str, features) -> None:
    """Refuse a tensor, or a tuple of some, that is infinite or NaN."""
    for part in features if isinstance(features, tuple) else (features,):
        if torch.is_tensor(part) and not part.isfinite().all():
            raise FloatingPointError(
                f"The {name} are infinite or NaN: train again with a lower OPTIM.LR, or compute in fp32."
            )


class EncodesClassesOnce(ReadsFeatures):
    """Evaluation that computes what does not depend on an image once, not once per batch, and what depends on frozen
    images alone once for all runs.
    """

    class_state = None  # what `encode_classes` gave, while a test goes on
    warned = False  # a run says once which classes have one text

    def autocast(self):
        return contextlib.nullcontext()

    def encode_classes(self):
        """What prediction needs of the classes."""
        raise NotImplementedError

    def predict(self, images: Tensor, class_state) -> Tensor:
        """Logits (B, C) of images (B, 3, H, W), given `encode_classes()`."""
        raise NotImplementedError

    @torch.no_grad()
    def test(self, split=None):
        """Dassl's test."""
        self.set_model_mode("eval")
        with self.autocast():
            self.class_state = self.encode_classes()
        self.warn_of_same_texts(getattr(self.class_state, "text", self.class_state))
        loaders = self.val_loader, self.test_loader
        self.val_loader, self.test_loader = (self.encoded(loader, self.tokens_wanted) for loader in loaders)
        try:
            result = super().test(split)
            if loaders != (self.val_loader, self.test_loader):
                self.test_images_per_second = None  # as no image was encoded while it was taken
            return result
        finally:
            self.val_loader, self.test_loader = loaders
            self.class_state = None

    def check_model(self):
        """Dassl's, where it has one: called when logits are no numbers, to name the first tensor that is none."""
        super().check_model()
        check_features("text features of the classes", self.class_state)

    def warn_of_same_texts(self, text) -> None:
        """Name the classes that texts (C, d) cannot tell apart: of one name, or of words never learned."""
        names = [readable(name) for name in self.dm.dataset.classnames]
        if self.warned or not torch.is_tensor(text) or text.dim() != 2 or len(text) != len(names):
            return  # said before, or the texts depend on the image
        self.warned = True
        for group in same_texts(text):
            alike = [names[label] for label in group]
            if len(clip.tokenize(alike, self.model.clip.context_length).unique(dim=0)) == 1:
                print(
                    f"{len(alike)} classes are called {alike[0]!r}, so that no prompt that they share tells them apart."
                )
                continue
            more = f" and {len(alike) - SHOWN} more" if len(alike) > SHOWN else ""
            print(
                f"Warning: {len(alike)} classes have one and the same text, so that no prompt that they share tells them "
                f"apart: {', '.join(map(repr, alike[:SHOWN]))}{more}. The backbone {self.cfg.MODEL.BACKBONE.NAME} does "
                "not know their words: choose other names, or another backbone."
            )

    def model_inference(self, images):
        with self.autocast():
            return self.predict(images, self.encode_classes() if self.class_state is None else self.class_state)


class ClipTrainer(ConfigKeys, EncodesClassesOnce, TrainerX):
    """The base trainer: override `build_learner`, and `compute_loss` if it is not plain cross-entropy."""

    shared_keys = {"PREC": "auto"}  # auto, fp32, fp16, bf16, amp
    shared_ranges = {"PREC": PRECISIONS}
    trainer_keys = {"MEMORY_MB": 0.0}  # MiB for the text encoder's activations at a time; 0: what there is room for
    trainer_ranges = {"MEMORY_MB": "at least 0"}
    run_ranges = {"DATALOADER.K_TRANSFORMS": one_version, "INPUT.NO_TRANSFORM": (False,)}
    adds_up = True  # whether its step is the gradient of its loss, so that a plug-in's can be added to it
    why_not_compiled = ""  # its encoders are, if TRAIN.COMPILE asks for it
    encoders: CompiledEncoders | None = None  # which is known before training
    memory: Division | None = None  # None: of a trainer file that builds its model itself
    learner_name = "prompt_learner"  # the folder of its checkpoints; the same as the published code's
    takes_views = True
    batch_views: Tensor | int = 0  # of the batch's images
    unused_tensors: frozenset[str] = frozenset()  # in checkpoints of the authors' code: neither used nor trained there

    @property
    def keys(self):
        """The method's own config keys."""
        return self.cfg.TRAINER[self.config_node]

    def template(self) -> str:
        """The method's hand-written prompt for the run's data set."""
        return template_of(self.dm.dataset, self.config_node)

    def check_cfg(self, cfg):
        backbone = cfg.MODEL.BACKBONE.NAME
        if not backbone:
            raise InputError(
                "No backbone is named: pass --backbone, or a --config-file that names one "
                f"(MODEL.BACKBONE.NAME; known: {', '.join(clip.available_models())})."
            )
        if os.path.isfile(backbone) or backbone in clip.available_models():
            return
        if clip.hub.is_foreign(backbone):
            clip.hub.check(backbone)
        else:
            near = difflib.get_close_matches(backbone, clip.available_models(), n=1, cutoff=0)
            raise InputError(
                f"Backbone {backbone!r} is neither a known CLIP nor a checkpoint file or folder; the nearest name is {near[0]!r} "
                f"(MODEL.BACKBONE.NAME, or --backbone; known: {', '.join(clip.available_models())}; from the hub: "
                "hf:owner/name and open_clip:model/tag)."
            )

    def build_model(self):
        self.remembered: dict[str, Tensor] = {}  # by name, what `once_per_image` computed
        own = self.cfg.MODEL.BACKBONE  # upstream Dassl has its name alone
        size = self.cfg.INPUT.SIZE[0] if own.get("RESIZE_POSITIONS", False) else 0
        try:
            self.precision = resolve_precision(self.keys.PREC, self.device)
            clip_model = self.load_clip(own.NAME, self.design_details(), own.get("ACT", ""), size)
            check_image_size(clip_model, self.cfg)
            warn_of_pixels(self.cfg)
            self.model = self.build_prompted_clip(clip_model).to(self.device)
        except OwnKeyError as error:
            raise InputError(f"TRAINER.{self.config_node}.{error}") from error
        batch = min(self.cfg.DATALOADER.TRAIN_X.BATCH_SIZE, max(1, len(self.dm.dataset.train_x)))
        self.memory = divide(self.model, batch, self.asked_memory(), self.device)
        self.scaler = torch.amp.GradScaler(self.device.type) if self.precision == "amp" else None
        learner = self.model.prompt_learner
        if learner is None:
            return
        if self.draws_views() and not self.takes_features_alone():
            raise InputError(
                f"DATALOADER.VIEWS are encoded once, and {self.cfg.TRAINER.NAME} needs the images themselves in each step: "
                "set it to 0."
            )
        if self.views() == 1 < self.cfg.DATALOADER.get("VIEWS", 0):
            print(
                "DATALOADER.VIEWS changes nothing: there is no chance in INPUT.TRANSFORMS, so that all views are one."
            )
        if self.cfg.MODEL.INIT_WEIGHTS:
            self.check_first_weights(learner, self.cfg.MODEL.INIT_WEIGHTS)
            load_pretrained_weights(learner, self.cfg.MODEL.INIT_WEIGHTS)
        self.optim = self.build_optimiser(learner)
        self.sched = None if self.optim is None else build_lr_scheduler(self.optim, self.cfg.OPTIM)
        self.register_model(self.learner_name, learner, self.optim, self.sched)

    def build_optimiser(self, learner: Learner) -> torch.optim.Optimizer | None:
        """Of all that is trained in the run's steps; a plug-in adds its own. None where nothing is."""
        return build_optimizer(learner, self.cfg.OPTIM)

    def load_clip(
        self, backbone: str, design_details: dict | None = None, activation: str = "", size: int = 0
    ) -> clip.model.CLIP:
        """In the run's precision, on its device. Until memory is divided, it has as much on any machine."""
        model = load_clip(backbone, self.precision, self.device, design_details, activation, size)
        model.text_memory = (self.asked_memory() or LEAST_MB) * MB
        model.text_store = getattr(self, "features", None)  # upstream Dassl has none
        return model

    def asked_memory(self) -> float:
        """TRAINER.MEMORY_MB; a trainer file with an `extend_cfg` of its own may not have it."""
        return self.cfg.TRAINER.get("MEMORY_MB", 0.0)

    def facts(self) -> dict:
        """For the run's record (upstream Dassl keeps none): the engine's, in which precision CLIP computes, and in how
        many parts texts are encoded, on which the last bits of what is learned depend.
        """
        facts = getattr(super(), "facts", dict)() | {"precision": self.precision}
        if self.memory is None:
            return facts
        return facts | {"text_parts": self.memory.parts or None, "text_memory_mb": self.memory.bound / MB}

    def announce(self) -> None:
        """Dassl's, where it has one, and what the run takes of memory, before it takes it."""
        super().announce()
        if self.memory is not None and self.steps_of_an_epoch():
            print(self.memory.in_words(self.asked_memory()))
        warn_of(self.needs(), self.device)

    def needs(self) -> list[Need]:
        """What takes memory at moments of a run that goes on to train, and then to test."""
        if self.memory is None:
            return []
        batch = self.cfg.DATALOADER.TEST.BATCH_SIZE
        images = of_images(self.model.clip.visual, batch, self.model.clip.dtype, learns=False)
        return [self.memory.need_of_a_step(), Need("A batch of test images", images, "DATALOADER.TEST.BATCH_SIZE")]

    def design_details(self) -> dict | None:
        """The deep prompts that CLIP is built with (`clip.build_model`); the learner takes them over."""
        return None

    def build_prompted_clip(self, clip_model: clip.model.CLIP) -> PromptedCLIP:
        return PromptedCLIP(clip_model, self.build_learner(clip_model, self.dm.dataset.classnames))

    def build_learner(self, clip_model: clip.model.CLIP, classnames: list[str]) -> Learner:
        """The module with everything that is trained; calling it gives prompts (C, L, D) and their ends (C,)."""
        raise NotImplementedError

    # --- training -----------------------------------------------------------------------------------------

    def before_train(self):
        way = self.cfg.TRAIN.get("COMPILE", "")  # upstream Dassl has no such key
        check_way(way, self.device, self.memory.parts if self.memory else 0)
        self.encoders = CompiledEncoders(self.model, way)
        if getattr(self.dm.dataset, "introduce", False):
            self.introduce()
        super().before_train()
        self.train_loader_x.dataset.pictures = self.looks_at_images()

    @torch.no_grad()
    def introduce(self) -> None:
        """Print a data set's first prompts and how CLIP does with them: a wrong class name shows before training."""
        dataset, loader, right, total = self.dm.dataset, self.val_loader or self.test_loader, Counter(), Counter()
        template, names = template_of(dataset), [readable(name) for name in dataset.classnames]
        print(f"Prompts: {' '.join(template.format(name) for name in names[:5])}{' ...' if len(names) > 5 else ''}")
        if loader is None:
            return
        text = zero_shot_text_features(self.model.clip, names, template)  # (C, d)
        self.warn_of_same_texts(text)
        plain = PromptedCLIP(self.model.clip)
        for batch in self.encoded(loader, model=plain):
            images, labels = self.parse_batch_test(batch)
            with self.autocast():
                f = plain.image_features(images)  # (B, d)
            labels, guesses = labels.tolist(), (f @ text.t()).argmax(dim=1).tolist()
            total.update(labels)
            right.update(label for label, guess in zip(labels, guesses, strict=True) if label == guess)
        part = "validation" if self.val_loader else "test"
        print(f"Zero-shot CLIP: {100 * right.total() / total.total():.1f}% of {total.total():,} {part} images")
        worst = sorted(total, key=lambda label: right[label] / total[label])[:3]
        print("Lowest: " + ", ".join(f"{names[i]!r} {100 * right[i] / total[i]:.0f}%" for i in worst))

    def parse_batch_train(self, batch):
        return tuple(batch[part].to(self.device, non_blocking=True) for part in ("img", "label"))

    @of_features
    def compute_loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of one batch, and what the log shows beside it: tensors of one number, which nobody reads here."""
        f = self.train_features(images)  # (B, d)
        logits = self.model.logits(f, self.model.text_features(f))  # (B, C)
        return F.cross_entropy(logits, labels), {"acc": compute_accuracy(logits, labels)[0]}

    @of_features
    def train_features(self, images: Tensor) -> Tensor:
        """The model's image features (B, d) of the current batch; a frozen image encoder sees each image but once."""
        if self.model.prompt_learner is None or self.model.prompt_learner.frozen_images:
            return self.once_per_image("image", self.model.image_features, images)
        return self.model.image_features(images)

    def once_per_image(self, name: str, compute, images: Tensor) -> Tensor:
        """`compute(images)` (B, ...) for the current batch, where nothing that is trained takes part in it.

        If the training transform has no chance in it, it is computed once for each training image, in the data set's
        order, and looked up from then on, so that a run that goes on from a checkpoint sees the same bits. With
        DATALOADER.VIEWS it is computed once for each of so many views, and each batch has one of them, by chance.
        """
        if not self.is_remembered():
            with torch.no_grad():
                return compute(images)
        return self.of_training_images(name, compute)[self.batch_views, self.batch_index]

    def of_training_images(self, name: str, compute) -> Tensor:
        """`compute` of all training images in all views (V, N, ...), computed once; in one, where each step draws another."""
        if name not in self.remembered:
            views = range(max(1, self.views()))
            self.remembered[name] = torch.stack([self.of_all(compute, view) for view in views])
        return self.remembered[name]

    @torch.no_grad()
    def of_all(self, compute, view: int) -> Tensor:
        """`compute` of all training images (N, ...), as one of the views shows them, which follows from the seed."""
        with random_numbers_kept(self.device):  # a loader takes one, which is the run's
            torch.default_generator.manual_seed(VIEWS_SEED + 1000 * max(self.cfg.SEED, 0) + view)
            loader = self.in_order(self.train_loader_x.dataset.transform)
            of = getattr(compute, "__self__", None)
            frozen = "image_features", "encoders_features", "raw_image_features"
            plain = isinstance(of, PromptedCLIP) and compute in [getattr(of, name) for name in frozen]
            if self.is_transform_fixed() and plain:
                loader = self.encoded(loader, model=of)
            return torch.cat([compute(self.parse_batch_train(batch)[0]) for batch in loader])

    def views(self) -> int:
        """How many views of each training image there are: one, if there is no chance in it; 0: another each time."""
        return 1 if self.is_transform_fixed() else self.cfg.DATALOADER.get("VIEWS", 0)

    def draws_views(self) -> bool:
        """Whether they are drawn by chance; one too is not what a batch's images show."""
        return self.views() > 0 and not self.is_transform_fixed()

    def is_remembered(self) -> bool:
        return self.views() > 0

    def looks_at_images(self) -> bool:
        """Whether training looks at the batches' images, or at what is remembered of them alone."""
        return not (self.takes_features_alone() and self.is_remembered())

    def takes_features_alone(self) -> bool:
        """Whether every part of a step that was written for this trainer has what it needs from `once_per_image`."""
        kind, frozen = type(self), getattr(getattr(self.model, "prompt_learner", None), "frozen_images", False)
        ours = kind.forward_backward is ClipTrainer.forward_backward
        names = "compute_loss", "train_features"
        parts = [vars(each)[name] for each in kind.__mro__ for name in names if name in vars(each)]
        return frozen and ours and all(getattr(each, "of_features", False) for each in parts)

    def in_order(self, transform):
        """All training images in the data set's order, as a transform shows them."""
        return build_data_loader(
            self.cfg,
            data_source=self.train_loader_x.dataset.data_source,
            batch_size=self.cfg.DATALOADER.TEST.BATCH_SIZE,
            tfm=transform,
            is_train=False,
        )

    def is_transform_fixed(self) -> bool:
        return set(self.cfg.INPUT.TRANSFORMS) <= FIXED_TRANSFORMS and not self.cfg.INPUT.NO_TRANSFORM

    def forward_backward(self, batch):
        images, labels = self.parse_batch_train(batch)
        # Which of the training images the batch holds, and which view of each.
        self.batch_index = batch["index"].to(self.device, non_blocking=True)
        if (views := self.views()) > 1:
            self.batch_views = torch.randint(views, self.batch_index.shape).to(self.device, non_blocking=True)
        with self.autocast(), self.compiled(len(labels)):
            loss, shown = self.compute_loss(images, labels)
        if self.scaler is None:
            self.model_backward_and_update(loss)
        else:
            self.detect_anomaly(loss)
            self.model_zero_grad()
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optim)
            self.scaler.update()
        if self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        return {"loss": loss.detach(), **shown}

    def autocast(self):
        return torch.autocast(self.device.type) if self.precision == "amp" else contextlib.nullcontext()

    def compiled(self, batch: int):
        """The encoders, for a step of so many images."""
        return contextlib.nullcontext() if self.encoders is None else self.encoders.at_work(batch)

    # --- evaluation ---------------------------------------------------------------------------------------

    def encode_classes(self):
        return self.model.text_features()  # (C, d)

    def predict(self, images, class_state):
        return self.model(images, class_state)

    # --- checkpoints --------------------------------------------------------------------------------------

    def load_model(self, directory, epoch=None):
        """Load every registered learner, strictly; without `epoch` the best one on validation images."""
        if not directory:
            print("Nothing is loaded: no model directory was given")
            return
        file = "model-best.pth.tar" if epoch is None else f"model.pth.tar-{epoch}"
        for name in self.get_model_names():
            path = os.path.join(directory, name, file)
            if not os.path.isfile(path):
                raise InputError(f"{path} does not exist: {_what_is_there(directory, name)}")
            self.load_registered(name, path)

    def load_registered(self, name: str, path: str) -> None:
        """A registered learner's tensors, strictly, of a checkpoint of ours or of the authors' code."""
        checkpoint = load_checkpoint(path)
        print(f"Loading {name} from {path} (epoch {checkpoint.get('epoch')})")
        rows = self.rows_of_classes(self._models[name], checkpoint, path)
        state = inert.weights_of(checkpoint, own=self._models[name].state_dict())
        if name == self.learner_name:  # a plug-in's is ours
            state = self.from_published(state) | self.published_beside(state, path)
        if rows is not None:
            state = self._models[name].of_rows(state, rows)
        load_learner(self._models[name], state, path, self.unused_tensors)

    def rows_of_classes(self, learner: nn.Module, checkpoint: dict, path: str) -> list[int] | None:
        """Which of a checkpoint's classes these are, in order, where something is learned for each, as a context; of equal
        names the first that is left. A class that is none of them is refused. None: they are the same, or do not matter.
        """
        what = getattr(learner, "of_classes", "")
        if not what:
            return None
        ours, theirs = list(self.dm.dataset.classnames), (checkpoint.get("identity") or {}).get("classes")
        if theirs is None:
            print(f"{path} does not say which classes it has {what} for: they are taken to be this run's, in order")
        if theirs is None or theirs == ours:
            return None
        rows = rows_of(ours, theirs)
        if -1 in rows:
            raise InputError(
                f"{path} has {what} for each of its {len(theirs)} classes, and {readable(ours[rows.index(-1)])!r} is none of "
                "them: test it on its own classes, or on some of them."
            )
        return rows

    def check_first_weights(self, learner: nn.Module, path: str) -> None:
        """Refuse MODEL.INIT_WEIGHTS of other classes, where something is learned for each."""
        if learner.of_classes and self.rows_of_classes(learner, load_checkpoint(path), path) is not None:
            raise InputError(
                f"MODEL.INIT_WEIGHTS {path} has {learner.of_classes} for each class of another list: name one of these."
            )

    def from_published(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The learner's tensors in a checkpoint of the authors' code, in our names; one of ours stays as it is."""
        return state

    def published_beside(self, state: dict[str, Tensor], path: str) -> dict[str, Tensor]:
        """The learner's tensors that the authors' code saves elsewhere than in `path`, whose tensors are `state`."""
        return {}


def _what_is_there(directory: str, name: str) -> str:
    """What a user who asked for a checkpoint that is not there needs to know."""
    if not os.path.isdir(directory):
        return f"there is no folder {directory}; train first, or correct --model-dir."
    if not os.path.isdir(os.path.join(directory, name)):
        found = sorted(entry.name for entry in os.scandir(directory) if entry.is_dir() and entry.name != "tensorboard")
        return f"{directory} holds {', '.join(found) or 'no model'}, so it is the run of another method, or broke off before it saved."
    there = sorted(file for file in os.listdir(os.path.join(directory, name)) if file.startswith("model"))
    if not there:
        return f"there is none any more; restore it, or remove {directory} and train again."
    return f"there are {', '.join(there)}; choose one with --load-epoch."


def load_learner(module: nn.Module, state: dict[str, Tensor], path: str, unused: frozenset[str]) -> None:
    """Strict loading: every tensor present and of the right shape; only `unused` and derived ones may be ignored."""
    ignored = unused.union(*(getattr(part, "derived_tensors", ()) for part in module.modules()))
    state = {name: value for name, value in state.items() if name not in ignored}
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        reasons = " ".join(line.strip() for line in str(error).splitlines()[1:])
        raise InputError(
            f"{path} does not fit this run ({reasons}): it was trained with another method, backbone, context length or "
            "other setting, or, where a context belongs to each class, with another number of classes."
        ) from error
