"""`HEAD: paper`: Spotlighter as the paper's framework figure draws it (Gao et al., Findings of EMNLP 2025, arXiv 2509.00905),
to be compared with this project's own head. It is trained in step with its host, and trains millions of numbers, not 21.

1. An image's patch tokens get a sample-wise and a semantic-wise activation, as in step 3 of `head.py`; their sum ranks them.
2. The R = 5 strongest are kept: ranks 1 and 2 are level 1, the others level 2.
3. Image side: prototypes ask the tokens of their level (cross-attention), then a transformer layer. Text side: a linear
   layer over [prototype, text] with a residual to the prototype. What comes out are the representative tokens.
4. Both sides meet in three logits: of level 1, of level 2, and of both, fused with CLIP's features, which is the prediction.
5. In training the memory of an image's class then takes its tokens in, by momentum.

Levels of 2 and 3 (the figure draws 3 and 2), momentum 0.8, level losses over 50 and one optimiser for all are those of the
authors' code. What was chosen:

- The memory has a slot for each rank of each class, as in the figure, so that tokens meet prototypes of their own level; the
  code has 25 slots for all classes together. A slot begins as its class's zero-shot text, in the code at random.
- A slot takes in a mean, weighted by the softmax of activations ("adaptive weights"); the code's sum drowns the momentum.
- The code ranks tokens by the class token's attention, and has no semantic-wise activation.
- The figure predicts by representative tokens alone, the code by features of which they are a share: 0.05 in training, 0.1
  in a test. Here it is FUSE, on both sides and in both; at 0 the head is its host.
- The host keeps its own loss, beside the head's. The code's distance between refined and plain features, which the figure
  has not, is left out.
- Classes never seen have nothing in the memory; they get what seen classes like them by text have, as in `head.py`.

The memory holds what an image wrote in earlier epochs, when the loss looks at that image again; nothing is held out.

B images      N patch tokens      C classes      d joint width      K = R prototypes a class, tokens an image
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from clip import InputError
from dassl.optim import build_lr_scheduler, build_optimizer

from ..shared.features import of_features
from .classes import Classes, lengths
from .head import Bank, Selection, SpotlighterHead
from .over_host import SpotlighterOverHost
from .trained import unit

LEVELS = slice(0, 2), slice(2, None)  # ranks, counted from 0, of level 1 and level 2


class PaperHead(SpotlighterHead):
    """Its activations, selection and carrying over are the head's; prototypes, mapping and prediction stand here.

    Of the 21 scalars none is trained. Texts are the host's, without an anchor (b = 0).
    """

    first_level = LEVELS[0].stop

    def __init__(self, **options):
        super().__init__(**options)
        torch.nn.init.zeros_(self.scalars.b)
        for parameter in (*self.scalars.parameters(), self.mapping.beta):
            parameter.requires_grad_(False)

    @torch.no_grad()
    def begin(self, z: Tensor, classnames: list[str], fuse: float, momentum: float) -> None:
        """A memory of nothing but the zero-shot texts z (C, d)."""
        self.prototypes, self.text = z[:, None].repeat(1, self.count, 1), z.clone()  # (C, K, d), (C, d)
        for name in ("text_mean", "image_mean", "token_mean"):  # nothing is centred
            setattr(self, name, torch.zeros_like(z[0]))
        self.classnames, self.momentum = list(classnames), momentum
        self.mapping.beta.fill_(fuse)

    def image_levels(self, f: Tensor, chosen: Selection, classes: Classes, bank: Bank) -> Tensor:
        """3. (B, 2, d), unit: each level's representative tokens, weighted by the softmax of their activations."""
        p = self.belief(f, classes, bank.image_mean)  # (B, C)
        believed = torch.einsum("bc,ckd->bkd", p, classes.prototypes)  # (B, K, d)
        found = []
        for ranks in LEVELS:
            tokens = self.mapping.of_image(believed[:, ranks], chosen.tokens[:, ranks])  # (B, 2 or 3, d)
            weights = chosen.activation[:, ranks].softmax(dim=1)
            found.append(unit((weights[..., None] * tokens).sum(dim=1)))
        return torch.stack(found, dim=1)

    def text_levels(self, classes: Classes) -> Tensor:
        """3. (C, 2, d), unit: the means of the classes' representative tokens. The layer is linear, so it may have the mean."""
        means = torch.stack([classes.prototypes[:, ranks].mean(dim=1) for ranks in LEVELS], dim=1)  # (C, 2, d)
        return unit(self.mapping.of_text(means, classes.text[:, None].expand_as(means)))

    def three_logits(self, f: Tensor, chosen: Selection, classes: Classes, bank: Bank) -> Tensor:
        """4. (B, 3, C): of level 1, of level 2, and of features u = (1 - w) f + w unit(l1 + l2), with w = FUSE on both sides."""
        image, text = self.image_levels(f, chosen, classes, bank), self.text_levels(classes)
        fused = unit(f.lerp(unit(image.sum(dim=1)), self.mapping.beta))  # (B, d)
        fused_text = unit(classes.text.lerp(unit(text.sum(dim=1)), self.mapping.beta))  # (C, d)
        cosines = torch.cat([torch.einsum("bld,cld->blc", image, text), (fused @ fused_text.t())[:, None]], dim=1)
        return self.logit_scale * cosines * classes.length

    def corrected(self, f: Tensor, chosen: Selection, classes: Classes, bank: Bank) -> Tensor:
        """4. The prediction (B, C), of which `logits` makes use."""
        return self.three_logits(f, chosen, classes, bank)[:, 2]

    def loss(self, f: Tensor, v: Tensor, y: Tensor, t: Tensor, levels: float) -> Tensor:
        """Cross-entropy of a batch f (B, d), v (B, N, d), plus `levels` times that of each level; t (C, d) are the host's texts.

        Then the memory takes the batch in: what it answered was not yet in there from this step.
        """
        classes = Classes(unit(t), self.prototypes, lengths(t))
        chosen = self.explain(f, v, classes, self.image_mean, self.token_mean).selection
        *of_levels, fused = self.three_logits(f, chosen, classes, self.bank).unbind(dim=1)
        self.write(chosen, y)
        return F.cross_entropy(fused, y) + levels * sum(F.cross_entropy(level, y) for level in of_levels)

    @torch.no_grad()
    def write(self, chosen: Selection, y: Tensor) -> None:
        """5. P_cr = unit(m P_cr + (1 - m) sum_b a_br v_br) over the images b of class c, where there are some.

        a is the softmax of these images' activations at rank r.
        """
        weights = (chosen.activation - chosen.activation.amax(dim=0)).exp()  # (B, R)
        member = F.one_hot(y, len(self.prototypes)).to(weights.dtype).t()  # (C, B)
        total = (member @ weights)[..., None]  # (C, R, 1)
        sums = (member @ (weights[..., None] * chosen.tokens).flatten(1)).view_as(self.prototypes)
        mean = sums / total.clamp_min(torch.finfo(total.dtype).tiny)
        # A new tensor, as the gradient of this step still needs the old one.
        self.prototypes = torch.where(total > 0, unit(self.prototypes.lerp(mean, 1 - self.momentum)), self.prototypes)


class PaperOverHost(SpotlighterOverHost):
    """The paper's form over a host: nothing is fitted behind the host's epochs."""

    head_kind = PaperHead

    def check_cfg(self, cfg):
        super().check_cfg(cfg)
        own = cfg.TRAINER.SPOTLIGHTER
        rules = [
            (own.JOINT, "is trained in step with its host: set JOINT to True"),
            (own.K == own.R > 2, "keeps a prototype for each rank, and two ranks are level 1: K and R must be one number from 3 on"),
            (own.LEVELS == 2, "has two levels: set LEVELS to 2"),
            (own.ZOOM == 0, "has no second look: set ZOOM to 0"),
        ]  # fmt: skip
        for holds, why in rules:
            if not holds:
                raise InputError(f"TRAINER.SPOTLIGHTER.HEAD paper {why}.")

    def build_model(self):
        super().build_model()
        self.head.begin(self.spotlit.zero_shot, self.spotlit.classnames, self.own.FUSE, self.own.MOMENTUM)

    def head_optimiser(self):
        """The host's kind, rate and schedule, as in the authors' code."""
        optimiser = build_optimizer(self.head, self.cfg.OPTIM)
        return optimiser, build_lr_scheduler(optimiser, self.cfg.OPTIM)

    def settings(self) -> dict:
        return super().settings() | {"FUSE": self.own.FUSE}

    def needs(self):
        return getattr(super(SpotlighterOverHost, self), "needs", list)()  # the host's: no shots are kept

    def run_epoch(self):
        super(SpotlighterOverHost, self).run_epoch()  # the host's

    @of_features
    def compute_loss(self, images, labels):
        """The host's own loss, and the head's."""
        loss, shown = super(SpotlighterOverHost, self).compute_loss(images, labels)
        f, v = self.model.image_features(images, tokens=True)
        ours = self.head.loss(f, v, labels, self.model.text_features(), self.own.LOSS.LEVELS)
        return loss + ours, {**shown, "loss_head": ours.detach()}

    def after_epoch(self):
        self.fit_head()
        super(SpotlighterOverHost, self).after_epoch()  # the host's

    @torch.no_grad()
    def fit_head(self):
        """Keep the texts of the classes seen, with which those never seen are compared."""
        self.head.text = unit(self.model.text_features())
