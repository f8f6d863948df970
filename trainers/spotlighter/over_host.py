"""The trainer: a host that trains as its authors train it, and predicts through the head."""

import torch
from torch import Tensor

from clip import InputError
from dassl.data.data_manager import build_data_loader
from dassl.data.transforms import build_transform

from ..shared import plug_in
from ..shared.clip_trainer import EncodesClassesOnce, check_features, random_numbers_kept
from ..shared.features import of_features
from ..shared.finished_run import check_alike, check_finished, last_checkpoint, record_in
from ..shared.memory import Need
from ..shared.ours import files_of_users, other_files
from ..shared.prompts import template_of
from .bank import Shots, remember
from .budgeted import BudgetedCLIP
from .checks import check_budget, check_encoder
from .choice import spend
from .classes import Classes
from .drop import number_kept
from .fit import FEWEST_CLASSES, FIT_LR, carrying_over, choose_zoom, classes_left_out, fit_scalars, held_out_loss
from .head import SpotlighterHead
from .host import check_host, part
from .model import SpotlitCLIP
from .survey import survey
from .tokens import HALF_ABOVE

AROUND = 1.4  # times the memory of the shots' tokens is what the fit holds at most (python -m benchmarks.fit)


def over(host: type, layer: type | None = None) -> type:
    """The trainer class of Spotlighter over a host's trainer class; `layer` in place of `SpotlighterOverHost`."""
    return plug_in.over(layer or SpotlighterOverHost, host, "Spotlighter")


class SpotlighterOverHost(EncodesClassesOnce):
    """The layer over a host, which is any trainer whose `self.model` is a `HostModel`."""

    tokens_wanted = True
    head_kind = SpotlighterHead
    host_seconds = 0.0  # of a host's run that was taken up

    @property
    def own(self):
        """Spotlighter's config keys; `keys` are the host's."""
        return self.cfg.TRAINER.SPOTLIGHTER

    @property
    def why_not_compiled(self) -> str:
        own = self.own
        if own.KEEP < 1 or own.ZOOM or own.JOINT:
            return "TRAINER.SPOTLIGHTER.KEEP, ZOOM and JOINT reach into the image encoder while it trains"
        return getattr(super(), "why_not_compiled", "")  # the host's

    def build_model(self):
        super().build_model()
        own, dataset = self.own, self.dm.dataset
        check_host(getattr(self, "model", None), own.HOST)
        if own.JOINT:
            self.check_joint()
        check_encoder(self.model.clip.visual, own, self.cfg.MODEL.BACKBONE.NAME)
        check_budget(own)
        self.spotlit = (BudgetedCLIP if own.BUDGET else SpotlitCLIP)(
            model=self.model,
            own=own,
            classnames=dataset.classnames,
            template=template_of(dataset),
            seed=self.cfg.SEED,
            head_kind=self.head_kind,
        )
        self.head = self.spotlit.head
        self.head.trained_with = self.settings()
        self.initial = {name: value.detach().clone() for name, value in self.head.named_parameters()}

        beside = "beside the host's prompts" if self.get_model_names() else "and nothing else"
        print(
            f"Spotlighter over {own.HOST}: {self.extra_parameters():,} trainable "
            f"{'scalars' if own.HEAD == 'lite' else 'numbers'} {beside} (and a bank of buffers)"
        )
        # The scalars are fitted after the host's epochs, by an optimiser of their own; only JOINT trains them in step.
        self.register_model("spotlighter", self.head, *(self.head_optimiser() if own.JOINT else ()))

    def head_optimiser(self) -> tuple:
        """What trains the head in step with the host: an optimiser and, if there is one, its schedule."""
        return (torch.optim.Adam(self.head.parameters(), lr=FIT_LR / 10),)

    def extra_parameters(self) -> int:
        """How many numbers are trained beside the host's."""
        return sum(p.numel() for p in self.head.parameters() if p.requires_grad)

    def facts(self) -> dict:
        """For the run's record (upstream Dassl keeps none): the host's, and what the head adds."""
        return getattr(super(), "facts", dict)() | {"extra_trainable_parameters": self.extra_parameters()}

    @property
    def plan(self) -> dict | None:
        """For the run's record: how a budget is spent."""
        plan = self.head.plan
        return None if plan is None else {"words": plan.in_words(self.spotlit.cost.patch), "cost": plan.cost}

    def check_joint(self):
        """Refuse to train the head in step with a host that offers no place for it."""
        own, shots, batch = self.own, len(self.dm.dataset.train_x), self.cfg.DATALOADER.TRAIN_X.BATCH_SIZE
        rules = [
            (not self.own.HOST_DIR, "trains the host, whose run is finished: leave HOST_DIR empty"),
            (hasattr(super(), "compute_loss"), f"needs a host with compute_loss, which {type(self).__name__} has not"),
            (not part(self.model, "conditional"), "needs a host whose prompts are the same for all images"),
            (not getattr(self, "draws_views", bool)(), "looks at each batch's own images: set DATALOADER.VIEWS to 0"),
            (getattr(self, "scaler", None) is None, "does not go with PREC amp: choose fp32, bf16 or fp16"),
            (
                batch < shots or own.HEAD == "paper",  # which keeps no shots
                f"keeps shots outside each batch in its bank: DATALOADER.TRAIN_X.BATCH_SIZE must be below {shots}",
            ),
        ]
        for holds, why in rules:
            if not holds:
                raise InputError(f"TRAINER.SPOTLIGHTER.JOINT True {why}.")

    def load_model(self, directory, epoch=None):
        """Load host and head; a head that was trained with other settings than the config's is refused."""
        try:
            super().load_model(directory, epoch)
        finally:  # where it does not fit, these say why; they are read before its tensors are compared
            self.check_trained_with(directory)

    def check_trained_with(self, directory):
        for key, then in self.head.trained_with.items():
            now = self.settings()[key]
            if now != then and not (key == "ZOOM" and self.head.zoom is None):
                raise InputError(
                    f"TRAINER.SPOTLIGHTER.{key} is {now!r}, and the model in {directory} was trained with {then!r}: "
                    "test it with the settings that it was trained with."
                )

    def settings(self) -> dict:
        """The keys that a trained head depends on, as plain values."""
        own = self.own
        names = ["HOST", "HEAD", "R", "K", "LEVELS", "KEEP", "ZOOM", "BUDGET"]
        if own.KEEP < 1 or own.BUDGET:
            names += ["DROP_AFTER", "SCORE", "GRID"]
        return {name: list(own[name]) if isinstance(own[name], tuple) else own[name] for name in names}

    def needs(self) -> list[Need]:
        """What takes memory: the host's, and the tokens of the shots, which are there together when the head is fitted."""
        patches = len(self.model.clip.visual.positional_embedding) - 1
        for _ in self.own.DROP_AFTER:
            patches = number_kept(patches, self.own.KEEP)
        tokens = 4 * len(self.dm.dataset.train_x) * patches * self.spotlit.zero_shot.shape[1]  # in fp32
        tokens = tokens / 2 if tokens > HALF_ABOVE else tokens
        return [*getattr(super(), "needs", list)(), Need("Spotlighter's fit", AROUND * tokens, "DATASET.NUM_SHOTS")]

    # --- training -----------------------------------------------------------------------------------------

    def before_train(self):
        own, count = self.own, self.dm.dataset.num_classes
        if own.BUDGET:
            self.spotlit.check_budget(own.BUDGET)
        super().before_train()
        if own.FIT_UNSEEN and (own.FIT or own.JOINT) and count < FEWEST_CLASSES:
            print(f"Spotlighter keeps its initial tau_b: of {count} classes none can be taken as never seen")
        if self.start_epoch == 0:  # else its checkpoint has it
            self.survey_shots()
            if own.HOST_DIR:
                self.take_host(own.HOST_DIR)

    def take_host(self, directory: str) -> None:
        """The host's prompts as a finished run has left them; what remains of the run is its last epoch, without steps."""
        key, names = "TRAINER.SPOTLIGHTER.HOST_DIR", [each for each in self.get_model_names() if each != "spotlighter"]
        if not names:
            raise InputError(
                f"{key} is {directory}, and {self.own.HOST} trains nothing that could be taken: leave it empty."
            )
        record = record_in(directory)
        check_finished(record, directory, key)
        here = {
            "method": self.own.HOST,
            "backbone": self.cfg.MODEL.BACKBONE.NAME,
            "dataset": self.cfg.DATASET.NAME,
            "shots": self.cfg.DATASET.NUM_SHOTS,
            "seed": self.cfg.SEED,
            "classes": list(self.dm.dataset.classnames),
        }
        check_alike(
            record,
            here,
            f"The run in {key} {directory}",
            "name a run of the host on the same images, or leave it empty",
        )
        if said := other_files(files_of_users([self.own.HOST]), record.get("methods")):
            raise InputError(f"The run in {key} {directory} was trained by another file: {said[0]}: name another run.")
        node = self.config_node
        theirs = ((record.get("config") or {}).get("TRAINER") or {}).get(node, {})
        ours = {name: list(value) if isinstance(value, tuple) else value for name, value in self.keys.items()}
        for name in sorted(ours.keys() & theirs.keys()):
            if ours[name] != theirs[name]:
                raise InputError(
                    f"The run in {key} {directory} was trained with TRAINER.{node}.{name} {theirs[name]!r}, and here it is "
                    f"{ours[name]!r}: set it to the run's, or leave {key} empty."
                )
        if not hasattr(self, "load_registered"):
            raise InputError(
                f"{key} takes runs of this project's methods, and {self.own.HOST} is none: leave it empty."
            )
        for name in names:
            self.load_registered(name, last_checkpoint(directory, (name,), key, f"name a run of {self.own.HOST}"))
        self.start_epoch, self.host_seconds = self.max_epoch - 1, record.get("train_seconds") or 0.0

    def survey_shots(self):
        """What the drops inside the encoder can know beforehand, from the shots."""
        if self.head.drop is not None:
            edits = part(self.model, "learner_edits")()
            survey(
                self.model.clip.visual,
                self.head.drop,
                self.shot_batches(pictures=True),
                self.dm.dataset.num_classes,
                edits,
            )

    @property
    def has_steps(self) -> bool:
        """Whether anything is trained in steps: over zero-shot CLIP, or a host that is trained already, nothing is, and all there is to
        an epoch is the fit.
        """
        return not self.own.HOST_DIR and any(self._optims.values())

    def steps_of_an_epoch(self) -> int:
        return super().steps_of_an_epoch() if self.has_steps else 0

    def run_epoch(self):
        if not self.has_steps:
            return
        if self.own.JOINT:
            self.shots = self.encode_shots(zoom=0)  # no step looks again
        super().run_epoch()

    @of_features
    def compute_loss(self, images, labels):
        """The host's loss; with JOINT also the head's, whose bank then holds the shots outside the batch."""
        loss, shown = super().compute_loss(images, labels)
        if not self.own.JOINT:
            return loss, shown
        memory = torch.ones(len(self.shots.y), dtype=torch.bool, device=labels.device)
        memory[self.batch_index] = False
        held_out = {
            "memory": self.shots[memory],
            "out": Shots(*self.model.image_features(images, tokens=True), labels),
            "t": self.model.text_features(),
            "z": self.spotlit.zero_shot,
        }
        ours = held_out_loss(self.head, **held_out, levels=self.own.LOSS.LEVELS)
        if (left_out := self.left_out()) is not None:
            ours = ours + carrying_over(self.head, **held_out, left_out=left_out.to(labels.device))
        return loss + ours, {**shown, "loss_head": ours.detach()}

    def looks_at_images(self) -> bool:
        return self.own.JOINT or super().looks_at_images()

    def left_out(self) -> Tensor | None:
        """The classes (C,) that this step of JOINT takes as never seen, as in the fit; a run that goes on draws the same."""
        step = self.epoch * self.num_batches + self.batch_idx
        generator = torch.Generator().manual_seed(max(self.cfg.SEED, 0) + step)
        return classes_left_out(self.dm.dataset.num_classes, step, self.own.FIT_UNSEEN, generator)

    def after_epoch(self):
        """Before a checkpoint is written, or validation images are classified, the head is fitted."""
        last = self.epoch + 1 == self.max_epoch
        frequency = self.cfg.TRAIN.CHECKPOINT_FREQ
        periodic = frequency > 0 and (self.epoch + 1) % frequency == 0
        if last or periodic or self.cfg.TEST.FINAL_MODEL == "best_val":
            self.fit_head()
        super().after_epoch()

    def after_train(self):
        if self.host_seconds:
            self.train_seconds += self.host_seconds  # the record's are of all that was trained
        super().after_train()

    def fit_head(self):
        self.set_model_mode("eval")
        own, seed, head, z = self.own, self.cfg.SEED, self.head, self.spotlit.zero_shot
        head.zoom = head.plan = None
        shots = self.encode_shots(own.ZOOM)
        check_features("image features of the shots", shots)
        with self.autocast():
            t = self.spotlit.typical_text(shots.f.mean(dim=0))  # (C, d)
        check_features("text features of the host", t)
        if not own.JOINT:
            with torch.no_grad():  # every fit starts from the initial values
                for name, value in head.named_parameters():
                    value.copy_(self.initial[name])
            if own.FIT:
                fit_scalars(head, shots, t, z, seed, pull=own.LOSS.PULL, levels=own.LOSS.LEVELS, unseen=own.FIT_UNSEEN)
        if own.ZOOM:
            head.zoom = choose_zoom(head, shots, t, z, own.ZOOM, seed)
            print(f"Spotlighter's second look: {head.zoom or 'none'}")
        if own.BUDGET:
            batches = self.shot_batches(pictures=True)
            shots = spend(self.spotlit, own.BUDGET, shots, batches, t, z, seed, encoding=self.autocast())
            print(f"Spotlighter's plan for a budget of {own.BUDGET:g}: {self.plan['words']}")
        remember(head, shots, t, z, self.dm.dataset.classnames)
        self.set_model_mode("train")

    def encode_shots(self, zoom: int) -> Shots:
        with self.autocast():  # as images are encoded when they are classified
            return self.spotlit.encode(self.shot_batches(), count=len(self.dm.dataset.train_x), zoom=zoom)

    def shot_batches(self, pictures: bool = False):
        """The training images as the test transform shows them: images (B, 3, H, W) and labels (B,). Features that are kept may
        stand in their place, unless `pictures` are wanted.
        """
        with random_numbers_kept(self.device):  # a loader takes one, which is the host's
            loader = build_data_loader(
                self.cfg,
                data_source=self.dm.dataset.train_x,
                batch_size=self.cfg.DATALOADER.TEST.BATCH_SIZE,
                tfm=build_transform(self.cfg, is_train=False),
                is_train=False,
            )
            yield from map(self.parse_batch_test, loader if pictures else self.encoded(loader, tokens=True))

    def encoded(self, loader, tokens: bool = False, model=None):
        """A loader's batches with features that are kept in place of images, where a plan does not look at these."""
        looks = model is None and getattr(self.spotlit, "looks_at_pictures", False)
        return loader if looks else super().encoded(loader, tokens, model)

    # --- evaluation ---------------------------------------------------------------------------------------

    def encode_classes(self) -> Classes:
        return self.spotlit.describe()

    def predict(self, images: Tensor, class_state: Classes) -> Tensor:
        return self.spotlit.predict(images, class_state)
