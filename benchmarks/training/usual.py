"""A run in the field's usual way: the trainer here, with its loaders, steps and evaluation exchanged for that code's.

Images are opened, transformed and encoded anew in each epoch and each test, texts run over 77 places for each batch, and
nothing is kept from one run to the next. What it learns and saves is what the trainer here would, within rounding. Zero-shot
CLIP encodes its texts once in that code too.
"""

import torch

from benchmarks.field import FieldDataset
from benchmarks.field_steps import FieldStep
from dassl.data.data_manager import Loader


def plain(loader, in_order: bool) -> Loader:
    """The same images in batches of the same size."""
    return Loader(
        FieldDataset(loader.dataset.data_source, loader.dataset.transform),
        batch_size=loader.batch_size,
        shuffle=not in_order,
        drop_last=loader.drop_last,
    )


class UsualWay:
    """In front of a trainer's class."""

    step = None

    def build_data_loader(self):
        super().build_data_loader()
        self.train_loader_x, self.test_loader = plain(self.train_loader_x, False), plain(self.test_loader, True)

    def field_step(self) -> FieldStep:
        """From where the trainer stands when the first batch comes; what it learns is the trainer's after each epoch."""
        if self.step is None:
            self.step = FieldStep(self)
        return self.step

    def looks_at_images(self) -> bool:
        return True

    def forward_backward(self, batch):
        for group, ours in zip(self.field_step().optim.param_groups, self.optim.param_groups, strict=True):
            group["lr"] = ours["lr"]
        shown = self.step(batch)
        if self.batch_idx + 1 == self.num_batches:
            self.update_lr()
            self.model.prompt_learner.load_state_dict(self.step.net.learner.state_dict())
        return shown

    def model_inference(self, images):
        if self.model.prompt_learner is None:
            return self.model(images)
        return self.field_step().net(images, torch.zeros(len(images), dtype=torch.long))[1]

    def encoded(self, loader, tokens: bool = False):
        return loader


def in_the_usual_way(kind: type) -> type:
    return type(f"Usual{kind.__name__}", (UsualWay, kind), {})
