"""Spotlighter: Gao et al., "Spotlighter: Revisiting Prompt Tuning from a Representative Mining View",
Findings of EMNLP 2025 (arXiv 2509.00905); the equations where the paper leaves room are this project's.

Each visual token gets an activation from the image's own belief and from a bank of class prototypes; the
R = 5 strongest, in two levels, and the bank correct what the host's prompts say. The host (CoOp or any other
registered method) is trained as its authors train it; then 21 scalars are fitted on held-out shots. The bank
is no parameter: it is computed from the training shots in closed form, and saved as buffers.

    B images      N patch tokens      C classes      d joint width      K prototypes a class      M = C * K
"""

from typing import NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from clip import InputError
from dassl.data.data_manager import build_data_loader
from dassl.data.transforms import build_transform
from dassl.engine import TRAINER_REGISTRY, TrainerX

from .prompts import template_of, zero_shot_text_features

PROTOTYPES = 5  # K
LEVELS = (3, 2)  # ranks 1-3 and 4-5 of the R = 5 kept tokens
CLUSTER_STEPS = 6
# Initial values and steps were chosen on validation images and inner splits of the embedded world.
FIT_STEPS, FIT_WARMUP, FIT_LR, FIT_LR_SCALE = 40, 8, 0.01, 0.1


class Scalars(nn.Module):
    """The 21 trained numbers, named as in the equations below."""

    def __init__(self):
        super().__init__()
        self.theta = nn.Parameter(torch.ones(2))  # weights of the sample-wise and the semantic-wise activation
        self.rho = nn.Parameter(torch.zeros(5))  # a bonus for each rank
        self.gamma = nn.Parameter(torch.zeros(3))  # how much of level 1, level 2 and both joins the feature
        self.omega = nn.Parameter(torch.tensor([1.0, 0.5, 0.5]))  # class token, level 1, level 2 in the bank's kernel
        self.alpha = nn.Parameter(torch.tensor(0.5))  # how much of the bank's map joins the feature
        self.g = nn.Parameter(torch.tensor(0.5))  # share of the mean taken from image and text features
        self.g_v = nn.Parameter(torch.tensor(1.0))  # the same for tokens
        self.b = nn.Parameter(torch.tensor(0.5))  # weight of the zero-shot anchor
        self.log_lambda = nn.Parameter(torch.tensor(10.0).log())  # ridge of the bank's map
        self.tau_w = nn.Parameter(torch.tensor(1.0))  # temperature of the weights within a level
        self.tau_b = nn.Parameter(torch.tensor(0.1))  # temperature of carrying over; base classes give it no gradient
        self.delta = nn.Parameter(torch.tensor(-0.7))  # log factor on the logit scale


class Shots(NamedTuple):
    """Features of training images; all rows are unit vectors."""

    f: Tensor  # (B, d) class tokens
    v: Tensor  # (B, N, d) patch tokens
    y: Tensor  # (B,) labels

    def __getitem__(self, rows):  # a mask or indices over images
        return Shots(self.f[rows], self.v[rows], self.y[rows])


class Bank(NamedTuple):
    """All that the head keeps of the training images and the base classes."""

    prototypes: Tensor  # P (C, K, d), unit rows
    text: Tensor  # T (C, d), unit rows: anchored and centred text features of the classes seen
    text_mean: Tensor  # t̄ (d,)
    image_mean: Tensor  # m_f (d,)
    token_mean: Tensor  # m_v (d,)
    level_means: Tensor  # m_1, m_2 (2, d)
    keys: Tensor  # X (M, 3d), means of the clusters
    counts: Tensor  # N (M,), images in each cluster
    map: Tensor  # S (M, d), the ridge's solution


class Classes(NamedTuple):
    """What prediction needs of the classes asked for; computed once per evaluation."""

    text: Tensor  # T (C, d)
    prototypes: Tensor  # P (C, K, d)


def unit(x: Tensor) -> Tensor:
    return F.normalize(x, dim=-1)


def standardise(a: Tensor) -> Tensor:
    """Zero mean and unit deviation over the tokens of each image; (B, N)."""
    return (a - a.mean(dim=1, keepdim=True)) / (a.std(dim=1, keepdim=True) + 1e-4)


def cluster(f: Tensor, y: Tensor, classes: int) -> Tensor:
    """K-means by cosine inside every class at once: the cluster (B,) of each image, class * K + k.

    Starts from the order of the images, so it is deterministic; a cluster may stay empty.
    """
    own = y[:, None] == torch.arange(classes, device=y.device)  # (B, C)
    rank = (own.cumsum(dim=0) - 1)[torch.arange(len(y), device=y.device), y]  # the image's number within its class
    k = rank % PROTOTYPES
    for _ in range(CLUSTER_STEPS):
        centres, counts = cluster_means(f, y * PROTOTYPES + k, classes)  # (M, d), (M,)
        similarity = torch.einsum("bd,bkd->bk", f, unit(centres).view(classes, PROTOTYPES, -1)[y])  # (B, K)
        k = similarity.masked_fill(counts.view(classes, PROTOTYPES)[y] == 0, -2.0).argmax(dim=1)
    return y * PROTOTYPES + k


def cluster_means(x: Tensor, index: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Mean (M, ...) of the rows of each cluster (zero where it is empty), and counts (M,)."""
    member = F.one_hot(index, classes * PROTOTYPES).to(x.dtype)  # (B, M); a product is deterministic on a GPU too
    counts = member.sum(dim=0)
    return (member.t() @ x) / counts.clamp_min(1)[:, None], counts


class SpotlighterHead(nn.Module):
    """The head: 21 scalars, and the bank once `remember` has filled it.

    With g = b = alpha = gamma = delta = 0 its logits are the host's.
    """

    def __init__(self, logit_scale: float):
        super().__init__()
        self.scalars = Scalars()
        self.logit_scale = logit_scale  # s, CLIP's
        self.classnames: list[str] = []  # of the classes in the bank
        for name in Bank._fields:
            self.register_buffer(name, torch.empty(0))

    # --- equations ----------------------------------------------------------------------------------------

    def anchored(self, t: Tensor, z: Tensor) -> Tensor:
        """1. t' = unit(t + b z): the host's text features t (C, d), pulled to the zero-shot ones z (C, d)."""
        return unit(t + self.scalars.b * z)

    def centred_text(self, anchored: Tensor, text_mean: Tensor) -> Tensor:
        """1. T = unit(t' - g t̄). The mean stays the base classes', also for classes never seen."""
        return unit(anchored - self.scalars.g * text_mean)

    def levels(
        self, f: Tensor, v: Tensor, classes: Classes, image_mean: Tensor, token_mean: Tensor, semantic: bool = True
    ) -> Tensor:
        """2.-4. Belief, activation, selection: the two level vectors (B, 2, d) of each image."""
        q = self.scalars
        top, chosen, v = self.select(f, v, classes, image_mean, token_mean, semantic)
        kept = v.gather(1, chosen[..., None].expand(-1, -1, v.shape[-1]))  # (B, R, d)
        weights = (top + q.rho) / q.tau_w.clamp_min(0.05)  # (B, R)
        return torch.stack(
            [
                unit((w.softmax(dim=1)[..., None] * tokens).sum(dim=1))  # (B, d)
                for w, tokens in zip(weights.split(LEVELS, dim=1), kept.split(LEVELS, dim=1), strict=True)
            ],
            dim=1,
        )

    def select(
        self, f: Tensor, v: Tensor, classes: Classes, image_mean: Tensor, token_mean: Tensor, semantic: bool = True
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The R strongest tokens: activations (B, R) in descending order, indices (B, R), centred tokens (B, N, d)."""
        sample_wise, semantic_wise, v = self.activations(f, v, classes, image_mean, token_mean, semantic)
        activation = self.scalars.theta[0] * sample_wise
        if semantic:
            activation = activation + self.scalars.theta[1] * semantic_wise
        return *activation.topk(sum(LEVELS), dim=1), v

    def activations(
        self, f: Tensor, v: Tensor, classes: Classes, image_mean: Tensor, token_mean: Tensor, semantic: bool = True
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """2.-3. Sample-wise and semantic-wise activation, both (B, N), standardised; and the centred tokens."""
        q = self.scalars
        f = unit(f - q.g * image_mean)  # (B, d)
        v = unit(v - q.g_v * token_mean)  # (B, N, d)
        belief = (self.logit_scale * f @ classes.text.t()).softmax(dim=1)  # p (B, C)
        sample_wise = torch.einsum("bnd,bd->bn", v, belief @ classes.text)
        if not semantic:
            return standardise(sample_wise), None, v
        nearest = torch.einsum("bnd,ckd->bnck", v, classes.prototypes).amax(dim=-1)  # (B, N, C)
        semantic_wise = torch.einsum("bnc,bc->bn", nearest, belief)
        return standardise(sample_wise), standardise(semantic_wise), v

    def interaction(self, f: Tensor, levels: Tensor, bank: Bank) -> Tensor:
        """5. x = [w0 (f - m_f), w1 (l1 - m1), w2 (l2 - m2)]: (B, 3d)."""
        parts = torch.cat([(f - bank.image_mean)[:, None], levels - bank.level_means], dim=1)  # (B, 3, d)
        return (self.scalars.omega[:, None] * parts).flatten(1)

    def logits(self, f: Tensor, v: Tensor, classes: Classes, bank: Bank) -> Tensor:
        """6. Logits (B, C) = s e^delta unit(f - g m_f + alpha x X' S + gamma levels) · T."""
        q = self.scalars
        levels = self.levels(f, v, classes, bank.image_mean, bank.token_mean)  # (B, 2, d)
        x = self.interaction(f, levels, bank)  # (B, 3d)
        both = torch.cat([levels, unit(levels.sum(dim=1, keepdim=True))], dim=1)  # (B, 3, d)
        u = f - q.g * bank.image_mean + q.alpha * (x @ bank.keys.t() @ bank.map) + (q.gamma[:, None] * both).sum(dim=1)
        return self.logit_scale * q.delta.exp() * unit(u) @ classes.text.t()

    # --- the bank -----------------------------------------------------------------------------------------

    def build_bank(self, shots: Shots, t: Tensor, z: Tensor) -> Bank:
        """The bank of some shots; t and z (C, d) are the host's and the zero-shot text features of their classes."""
        f, v, y = shots
        count = len(t)
        image_mean, token_mean = f.mean(dim=0), v.mean(dim=(0, 1))
        anchored = self.anchored(t, z)
        text_mean = anchored.mean(dim=0)
        text = self.centred_text(anchored, text_mean)
        index = cluster(f, y, count)  # (B,)

        # Prototypes: what the strongest tokens of each cluster have in common. As there is no bank yet, the
        # sample-wise activation chooses; no gradient, a prototype is memory.
        with torch.no_grad():
            first = self.levels(f, v, Classes(text, text[:, None]), image_mean, token_mean, semantic=False)[:, 0]
            means, counts = cluster_means(first, index, count)  # (M, d), (M,)
            by_class = (means * counts[:, None]).view(count, PROTOTYPES, -1).sum(dim=1)  # (C, d)
            means = torch.where(counts[:, None] > 0, means, by_class.repeat_interleave(PROTOTYPES, dim=0))
            prototypes = unit(means).view(count, PROTOTYPES, -1)

        levels = self.levels(f, v, Classes(text, prototypes), image_mean, token_mean)  # (B, 2, d)
        bank = Bank(
            prototypes, text, text_mean, image_mean, token_mean, levels.mean(dim=0).detach(), *[torch.empty(0)] * 3
        )
        keys, counts = cluster_means(self.interaction(f, levels, bank), index, count)  # X (M, 3d)
        # The ridge maps a cluster's key to what its mean image lacks to be its class's text. An empty cluster
        # has a zero key and a zero target, and so no say.
        centred, _ = cluster_means(f - image_mean, index, count)  # (M, d)
        target = (anchored - text_mean).repeat_interleave(PROTOTYPES, dim=0) - centred
        target = target * (counts > 0)[:, None]
        kernel = keys @ keys.t() + self.scalars.log_lambda.exp() * torch.diag(1 / counts.clamp_min(1))
        return bank._replace(keys=keys, counts=counts, map=torch.linalg.solve(kernel, target))

    @property
    def bank(self) -> Bank:
        return Bank(*(getattr(self, name) for name in Bank._fields))

    @torch.no_grad()
    def remember(self, shots: Shots, t: Tensor, z: Tensor, classnames: list[str]) -> None:
        """Fill the buffers from all shots, with the scalars as they stand."""
        for name, value in self.build_bank(shots, t, z)._asdict().items():
            setattr(self, name, value.detach().clone())
        self.classnames = list(classnames)

    def describe(self, t: Tensor, z: Tensor, classnames: list[str]) -> Classes:
        """The classes asked for: those in the bank keep their prototypes, others get theirs carried over.

        P_new,k = unit(T_new + sum_c softmax_c(<T_new, T_c> / tau_b) (P_ck - T_c)); no image of theirs is used.
        """
        bank = self.bank
        if not len(bank.prototypes):
            raise InputError("Spotlighter's bank is empty: load a finished run with --model-dir, or train first.")
        text = self.centred_text(self.anchored(t, z), bank.text_mean)  # (C', d)
        near = (text @ bank.text.t() / self.scalars.tau_b.clamp_min(0.02)).softmax(dim=1)  # (C', C)
        residuals = bank.prototypes - bank.text[:, None]  # (C, K, d)
        prototypes = unit(text[:, None] + torch.einsum("nc,ckd->nkd", near, residuals))  # (C', K, d)
        seen = {name: index for index, name in enumerate(self.classnames)}
        rows = torch.tensor([seen.get(name, -1) for name in classnames], device=text.device)  # (C',)
        return Classes(text, torch.where((rows >= 0)[:, None, None], bank.prototypes[rows], prototypes))

    def forward(self, f: Tensor, v: Tensor, classes: Classes) -> Tensor:
        """f (B, d) and v (B, N, d), unit rows -> logits (B, C)."""
        return self.logits(f, v, classes, self.bank)

    # --- saving: a bank has the shape of the classes it was built from, not of those now asked for ---------

    def get_extra_state(self):
        return {"classnames": self.classnames}

    def set_extra_state(self, state):
        self.classnames = state["classnames"]

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        for name in Bank._fields:
            if prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name], device=getattr(self, name).device))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def fit_scalars(head: SpotlighterHead, shots: Shots, t: Tensor, z: Tensor, keys, seed: int) -> None:
    """Fit the 21 scalars: each step builds the bank from a random half of every class's shots and takes the
    cross-entropy on the other half, plus `LOSS.PULL` times the squared distance from the initial values.

    The scale `delta` goes first and faster: cross-entropy acts first as a temperature fit, and everything
    else would shrink to serve as one.
    """
    if half_of_each_class(shots.y, torch.Generator()).all():
        print("Spotlighter keeps its initial scalars: with one shot a class there is none to hold out")
        return
    scalars = head.scalars
    others = [p for name, p in scalars.named_parameters() if name != "delta"]
    initial = [p.detach().clone() for p in others]
    optimiser = torch.optim.Adam([{"params": others, "lr": FIT_LR}, {"params": [scalars.delta], "lr": FIT_LR_SCALE}])
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        [
            lambda step: (step >= FIT_WARMUP) * half_cosine(step / FIT_STEPS),
            lambda step: half_cosine(step / FIT_STEPS),
        ],
    )
    generator = torch.Generator().manual_seed(max(seed, 0))  # its own: the host's random numbers stay as they are
    for _ in range(FIT_STEPS):
        memory = half_of_each_class(shots.y, generator)
        bank = head.build_bank(shots[memory], t, z)
        held_out = shots[~memory]
        loss = F.cross_entropy(
            head.logits(held_out.f, held_out.v, Classes(bank.text, bank.prototypes), bank), held_out.y
        )
        pull = sum(((p - p0) ** 2).sum() for p, p0 in zip(others, initial, strict=True))
        optimiser.zero_grad()
        (loss + keys.LOSS.PULL * pull).backward()
        optimiser.step()
        schedule.step()


def half_cosine(progress: float) -> float:
    return 0.5 * (1 + torch.cos(torch.tensor(progress * torch.pi)).item())


def half_of_each_class(y: Tensor, generator: torch.Generator) -> Tensor:
    """A mask (B,) of a random half of each class's images; of an odd number, the smaller half but at least one."""
    order = torch.argsort(y.cpu() + torch.rand(len(y), generator=generator))  # by class, shuffled within
    counts = torch.bincount(y.cpu())
    rank = torch.arange(len(y)) - (counts.cumsum(0) - counts)[y.cpu()[order]]
    mask = torch.zeros(len(y), dtype=torch.bool)
    mask[order] = rank < (counts // 2).clamp_min(1)[y.cpu()[order]]
    return mask.to(y.device)


class SpotlighterOverHost:
    """The layer over a host: it trains as the host does, and predicts through the head.

    A host is any trainer whose `self.model` gives `image_features(images, tokens=True)` -> f (B, d), v (B, N, d)
    and `text_features()` -> (C, d), all unit rows, and `logit_scale()`, with CLIP itself as `self.model.clip`.
    """

    extra_trainable_parameters = 21

    def build_model(self):
        super().build_model()
        keys = self.cfg.TRAINER.SPOTLIGHTER
        missing = [
            name for name in ("image_features", "text_features", "logit_scale", "clip") if not hasattr(self.model, name)
        ]
        if missing:
            raise InputError(
                f"TRAINER.SPOTLIGHTER.HOST {keys.HOST} cannot carry Spotlighter: its model has no {', '.join(missing)}."
            )
        self.head = SpotlighterHead(self.model.logit_scale().item()).to(self.device)
        count = sum(p.numel() for p in self.head.parameters())
        assert count == self.extra_trainable_parameters, f"the head trains {count} scalars, not 21"
        print(
            f"Spotlighter over {keys.HOST}: {count} trainable scalars beside the host's prompts (and a bank of buffers)"
        )
        dataset = self.dm.dataset
        self.zero_shot = zero_shot_text_features(self.model.clip, dataset.classnames, template_of(dataset))  # (C, d)
        self.register_model("spotlighter", self.head)  # no optimiser: `fit_scalars` has its own

    def run_epoch(self):
        if any(self._optims.values()):  # zero-shot CLIP as host has nothing to train
            super().run_epoch()

    def after_epoch(self):
        """Before a checkpoint is written, or validation images are classified, the head is fitted."""
        last = self.epoch + 1 == self.max_epoch
        frequency = self.cfg.TRAIN.CHECKPOINT_FREQ
        periodic = frequency > 0 and (self.epoch + 1) % frequency == 0
        if last or periodic or self.cfg.TEST.FINAL_MODEL == "best_val":
            self.fit_head()
        super().after_epoch()

    def fit_head(self):
        self.set_model_mode("eval")
        with torch.no_grad(), torch.random.fork_rng():  # a loader takes a random number, which is the host's
            shots, t = self.encode_shots(), self.model.text_features()
        self.head.load_state_dict(SpotlighterHead(self.head.logit_scale).state_dict())  # start from the initial values
        if self.cfg.TRAINER.SPOTLIGHTER.FIT:
            fit_scalars(self.head, shots, t, self.zero_shot, self.cfg.TRAINER.SPOTLIGHTER, self.cfg.SEED)
        self.head.remember(shots, t, self.zero_shot, self.dm.dataset.classnames)
        self.set_model_mode("train")

    def encode_shots(self) -> Shots:
        """The training images as the test transform shows them."""
        loader = build_data_loader(
            self.cfg,
            data_source=self.dm.dataset.train_x,
            batch_size=self.cfg.DATALOADER.TEST.BATCH_SIZE,
            tfm=build_transform(self.cfg, is_train=False),
            is_train=False,
        )
        batches = [self.parse_batch_test(batch) for batch in loader]
        features = [(*self.model.image_features(images, tokens=True), labels) for images, labels in batches]
        return Shots(*(torch.cat(part) for part in zip(*features, strict=True)))

    def encode_classes(self) -> Classes:
        return self.head.describe(self.model.text_features(), self.zero_shot, self.dm.dataset.classnames)

    def predict(self, images, class_state: Classes):
        f, v = self.model.image_features(images, tokens=True)
        return self.head(f, v, class_state)


@TRAINER_REGISTRY.register()
class Spotlighter(TrainerX):
    """Builds the layered trainer for `TRAINER.SPOTLIGHTER.HOST`, found by name in the registry."""

    host_key = "TRAINER.SPOTLIGHTER.HOST"  # whose config keys are needed too

    @staticmethod
    def extend_cfg(cfg):
        cfg.TRAINER.SPOTLIGHTER = CfgNode()
        cfg.TRAINER.SPOTLIGHTER.HOST = "CoOp"  # any registered method with prompts
        cfg.TRAINER.SPOTLIGHTER.HEAD = "lite"  # the 21 scalars
        cfg.TRAINER.SPOTLIGHTER.FIT = True  # False keeps the scalars' initial values
        cfg.TRAINER.SPOTLIGHTER.LOSS = CfgNode()
        cfg.TRAINER.SPOTLIGHTER.LOSS.PULL = 1.0  # times the squared distance from the initial values

    def __new__(cls, cfg):
        keys = cfg.TRAINER.SPOTLIGHTER
        if keys.HEAD != "lite":
            raise InputError(f"TRAINER.SPOTLIGHTER.HEAD is {keys.HEAD!r}: 'lite' is the one there is.")
        host = TRAINER_REGISTRY.get(keys.HOST)
        if host is cls:
            raise InputError("TRAINER.SPOTLIGHTER.HOST cannot be Spotlighter itself: name a method such as CoOp.")
        return type(f"Spotlighter{host.__name__}", (SpotlighterOverHost, host), {})(cfg)
