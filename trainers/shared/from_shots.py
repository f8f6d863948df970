"""What methods share that compute something of the training images' features: a cache, means, a covariance. They do so once,
before any training or in place of it.

V passes over the images      N images      C classes      d joint width
"""

import torch
from torch import Tensor

from clip import InputError

from .clip_trainer import ClipTrainer, check_features
from .prompts import Learner


class ShotLearner(Learner):
    """Tensors that are computed of the shots. Those named in `sized` have a length that follows from how many there were: a
    checkpoint's are taken as long as they are.
    """

    frozen_texts = True
    sized: tuple[str, ...] = ()
    chosen: tuple[float, ...] | None = None  # strengths in place of the config's, by which predictions are mixed

    def get_extra_state(self):
        return {"chosen": self.chosen}

    def set_extra_state(self, state):
        self.chosen = state["chosen"]

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        for name in self.sized:
            if prefix + name in state_dict:
                own = getattr(self, name)
                room = torch.empty_like(state_dict[prefix + name], device=own.device)
                if isinstance(own, torch.nn.Parameter):
                    own.data = room  # the optimiser has it
                else:
                    setattr(self, name, room)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class FromShots(ClipTrainer):
    """A method that fills its `ShotLearner` from the training images, and trains nothing if that has no parameters."""

    takes_views = False

    def check_cfg(self, cfg):
        super().check_cfg(cfg)
        if cfg.MODEL.INIT_WEIGHTS:
            raise InputError(
                f"{cfg.TRAINER.NAME} computes what it begins with from the training images: leave MODEL.INIT_WEIGHTS empty."
            )

    def build_optimiser(self, learner):
        return super().build_optimiser(learner) if any(True for _ in learner.parameters()) else None

    def before_train(self):
        super().before_train()
        if self.start_epoch == 0:  # else the checkpoint has it
            self.fill()

    @torch.no_grad()
    def fill(self) -> None:
        """What the learner begins with."""
        with self.autocast():  # as images are encoded when they are classified
            self.take_shots()

    def take_shots(self) -> None:
        """Fill the learner's tensors."""
        raise NotImplementedError

    def shots(self, compute, passes: int) -> tuple[Tensor, Tensor]:
        """`compute` of all training images as so many passes of the training transform show them, (V, N, d), and labels (N,).
        The passes follow from the seed; where there is no chance in the transform, one is all of them.
        """
        passes = 1 if self.is_transform_fixed() else passes
        f = torch.stack([self.of_all(compute, number) for number in range(passes)])  # (V, N, d)
        check_features("image features of the shots", f)
        labels = [item.label for item in self.train_loader_x.dataset.data_source]
        return f, torch.tensor(labels, device=f.device)

    @torch.no_grad()
    def validation(self) -> tuple[Tensor, Tensor]:
        """Features (N, d) and labels (N,) of the validation images."""
        with self.autocast():
            batches = [self.parse_batch_test(batch) for batch in self.encoded(self.val_loader)]
            f = [self.model.image_features(images) for images, _ in batches]
        return torch.cat(f), torch.cat([labels for _, labels in batches])

    def is_chosen(self) -> bool:
        """Whether validation images choose, as TEST.FINAL_MODEL best_val says: strengths too, not the epoch alone."""
        return self.cfg.TEST.FINAL_MODEL == "best_val" and not self.cfg.TEST.NO_TEST

    # --- nothing may be trained -----------------------------------------------------------------------------------

    @property
    def has_steps(self) -> bool:
        return any(self._optims.values())

    def steps_of_an_epoch(self) -> int:
        return super().steps_of_an_epoch() if self.has_steps else 0

    def run_epoch(self):
        if self.has_steps:
            super().run_epoch()

    def looks_at_images(self) -> bool:
        return self.has_steps and super().looks_at_images()
