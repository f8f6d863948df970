"""The training step of the field's published code, re-created for comparison: CoOp, CoCoOp, KgCoOp, ProGrad, MaPLe, PromptSRC.

It computes what the trainers here compute, in the way in which that code does it:

- texts run over all 77 places, whatever their length, and CoCoOp's once for each image of the batch;
- tokens come as (L, N, D), attention is `nn.MultiheadAttention` as PyTorch ships it, under a dense mask of floats;
- PromptSRC encodes each image a second time, without prompts;
- layer norms are computed in fp32, and all activations are kept for the backward pass;
- after each step the host reads the loss, the accuracy, and whether the loss is a number.

    B images      C classes      m tokens of a prompt      D width of its encoder      d joint width      L = 77
"""

import copy

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

import clip
from clip.model import CLIP, ResidualAttentionBlock
from dassl.metrics import compute_accuracy
from trainers.prograd import without_conflict
from trainers.shared.clip_trainer import ClipTrainer
from trainers.shared.prompts import readable


def unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True)


def layer_norm(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    return F.layer_norm(x.float(), norm.normalized_shape, norm.weight, norm.bias, norm.eps).to(x.dtype)


def run_block(block: ResidualAttentionBlock, x: Tensor, mask: Tensor | None = None) -> Tensor:
    """x (L, N, D) -> (L, N, D)"""
    y = layer_norm(block.ln_1, x)
    x = x + nn.MultiheadAttention.forward(block.attn, y, y, y, need_weights=False, attn_mask=mask)[0]
    hidden = block.mlp.c_fc(layer_norm(block.ln_2, x))
    return x + block.mlp.c_proj(hidden * torch.sigmoid(1.702 * hidden))


def spread(prompt: Tensor, x: Tensor) -> Tensor:
    """A prompt (m, D) for every sequence of x (L, N, D): (m, N, D)."""
    return prompt.to(x.dtype)[:, None].expand(-1, x.shape[1], -1)


class FieldCLIP:
    """CLIP's two encoders as that code runs them, over the very parameters of ours."""

    def __init__(self, model: CLIP):
        self.clip, places = model, model.context_length
        device = model.logit_scale.device
        self.mask = torch.full((places, places), -torch.inf, dtype=model.dtype, device=device).triu(1)

    def image(self, images: Tensor, prompts=()) -> Tensor:
        """(B, 3, H, W) -> unit rows (B, d); prompts[i] (m, D) are for block i."""
        visual = self.clip.visual
        x = visual.conv1(images.to(self.clip.dtype)).flatten(2).permute(0, 2, 1)  # (B, N, D)
        x = torch.cat([visual.class_embedding.to(x.dtype).expand(len(x), 1, -1), x], dim=1)
        x = x + visual.positional_embedding.to(x.dtype)
        if prompts:
            x = torch.cat([x, prompts[0].to(x.dtype).expand(len(x), -1, -1)], dim=1)
        x = layer_norm(visual.ln_pre, x).permute(1, 0, 2)  # (L, B, D)
        for i, block in enumerate(visual.transformer.resblocks):
            if 0 < i < len(prompts):
                x = torch.cat([x[: len(x) - len(prompts[i])], spread(prompts[i], x)])
            x = run_block(block, x)
        return unit(layer_norm(visual.ln_post, x.permute(1, 0, 2)[:, 0]) @ visual.proj)

    def text(self, prompts: Tensor, end: Tensor, deeper=()) -> Tensor:
        """Embedded tokens (C, L, D) that end at `end` (C,) -> unit rows (C, d); deeper[i] (m, D) are for block i + 1."""
        model = self.clip
        x = (prompts + model.positional_embedding.to(model.dtype)).permute(1, 0, 2)  # (L, C, D)
        for i, block in enumerate(model.transformer.resblocks):
            if 0 < i <= len(deeper):
                prompt = deeper[i - 1]
                x = torch.cat([x[:1], spread(prompt, x), x[1 + len(prompt) :]])
            x = run_block(block, x, self.mask)
        x = layer_norm(model.ln_final, x.permute(1, 0, 2))  # (C, L, D)
        return unit(x[torch.arange(len(x)), end] @ model.text_projection)


class FieldCoOp(nn.Module):
    """Its parameters are copies of what the trainer has learned so far, the context in CLIP's precision."""

    def __init__(self, trainer: ClipTrainer):
        super().__init__()
        model, names = trainer.model.clip, trainer.dm.dataset.classnames
        self.encoders = FieldCLIP(model)  # no module, so that `parameters` are those that are learned
        self.learner = copy.deepcopy(trainer.model.prompt_learner)
        self.learner.ctx = nn.Parameter(self.learner.ctx.detach().to(model.dtype))  # (m, D)
        m = len(self.learner.ctx)
        given = trainer.keys.CTX_INIT  # ProGrad's is no text, and its context may be longer than its words
        words = readable(given) if given and isinstance(given, str) else " ".join(["X"] * m)
        tokens = clip.tokenize([f"{words} {readable(name)}." for name in names]).to(model.logit_scale.device)  # (C, L)
        embeddings = model.token_embedding(tokens).detach().to(model.dtype)  # (C, L, D)
        self.prefix, self.suffix, self.end = embeddings[:, :1], embeddings[:, 1 + m :], tokens.argmax(dim=-1)

    def prompts(self, ctx: Tensor) -> Tensor:
        """(m, D) -> (C, L, D)"""
        return torch.cat([self.prefix, ctx.expand(len(self.prefix), -1, -1), self.suffix], dim=1)

    def text(self, deeper=()) -> Tensor:
        """(C, d)"""
        return self.encoders.text(self.prompts(self.learner.ctx), self.end, deeper)

    def logits(self, f: Tensor, text: Tensor) -> Tensor:
        """(B, d) and (C, d) -> (B, C)"""
        return self.encoders.clip.logit_scale.exp() * f @ text.t()

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of a batch, and its logits (B, C)."""
        text = self.text()
        logits = self.logits(self.encoders.image(images), text)
        return F.cross_entropy(logits, labels), logits


class FieldKgCoOp(FieldCoOp):
    def __init__(self, trainer):
        super().__init__(trainer)
        self.hand_written, self.weight = trainer.hand_written.to(trainer.model.clip.dtype), trainer.keys.W  # (C, d)

    def forward(self, images, labels):
        text = self.text()
        logits = self.logits(self.encoders.image(images), text)
        distance = 1 - F.cosine_similarity(text, self.hand_written, dim=1, eps=1e-7).mean()
        return F.cross_entropy(logits, labels) + self.weight * distance, logits


class FieldProGrad(FieldCoOp):
    def __init__(self, trainer):
        super().__init__(trainer)
        self.hand_written, self.keys = trainer.hand_written.to(trainer.model.clip.dtype), trainer.keys  # (C, d)

    def forward(self, images, labels):
        f, T = self.encoders.image(images), self.keys.T
        logits = self.logits(f, self.text())
        loss = F.cross_entropy(logits, labels)
        if not torch.is_grad_enabled():
            return loss, logits
        teacher = (self.logits(f, self.hand_written) / T).softmax(dim=-1)
        ctx, divergence = self.learner.ctx, T**2 * F.cross_entropy(logits / T, teacher)
        general = torch.autograd.grad(divergence, ctx, retain_graph=True)[0]
        aligned = without_conflict(torch.autograd.grad(loss, ctx)[0], general, self.keys.LAMBDA)
        return loss.detach() + (aligned * (ctx - ctx.detach())).sum(), logits


class FieldCoCoOp(FieldCoOp):
    def __init__(self, trainer):
        super().__init__(trainer)
        self.learner.meta_net.to(trainer.model.clip.dtype)

    def forward(self, images, labels):
        f, rows = self.encoders.image(images), []
        for feature, shift in zip(f, self.learner.meta_net(f), strict=True):  # (d,), (D,)
            text = self.encoders.text(self.prompts(self.learner.ctx + shift), self.end)
            rows.append(self.logits(feature, text))
        logits = torch.stack(rows)
        return F.cross_entropy(logits, labels), logits


class FieldMaPLe(FieldCoOp):
    def __init__(self, trainer):
        super().__init__(trainer)
        self.learner.proj.to(trainer.model.clip.dtype)

    def forward(self, images, labels):
        learner = self.learner
        deeper = list(learner.compound_prompts_text)
        maps = zip(learner.compound_prompt_projections, deeper, strict=True)
        visual = [learner.proj(learner.ctx), *(project(prompt) for project, prompt in maps)]  # (m, D) each
        text = self.text(deeper)
        logits = self.logits(self.encoders.image(images, visual), text)
        return F.cross_entropy(logits, labels), logits


class FieldPromptSRC(FieldCoOp):
    def __init__(self, trainer):
        super().__init__(trainer)
        self.frozen_text = trainer.frozen_text.to(trainer.model.clip.dtype)  # (C, d), which that code computes once too
        self.text_weight, self.image_weight = trainer.keys.TEXT_LOSS_WEIGHT, trainer.keys.IMAGE_LOSS_WEIGHT

    def forward(self, images, labels):
        text, f = self.text(list(self.learner.text)), self.encoders.image(images, list(self.learner.visual))
        with torch.no_grad():
            frozen_f = self.encoders.image(images)
            frozen_logits = self.logits(frozen_f, self.frozen_text)
        logits = self.logits(f, text)
        divergence = F.kl_div(F.log_softmax(logits, 1), F.log_softmax(frozen_logits, 1), reduction="sum", log_target=True)  # fmt: skip
        near = self.text_weight * F.l1_loss(text, self.frozen_text) + self.image_weight * F.l1_loss(f, frozen_f)
        return F.cross_entropy(logits, labels) + near + divergence / logits.numel(), logits


FIELD = {
    "COOP": FieldCoOp,
    "COCOOP": FieldCoCoOp,
    "KGCOOP": FieldKgCoOp,
    "PROGRAD": FieldProGrad,
    "MAPLE": FieldMaPLe,
    "PROMPTSRC": FieldPromptSRC,
}  # by the method's config node


class FieldStep:
    """One step of that code's loop, from where a trainer of the same method stands, with its optimiser's settings.

    It learns in tensors of its own: the trainer does not notice.
    """

    def __init__(self, trainer: ClipTrainer):
        self.device, self.net = trainer.device, FIELD[trainer.config_node](trainer)
        group, own = trainer.optim.param_groups[0], ("lr", "momentum", "weight_decay", "dampening", "nesterov")
        self.optim = torch.optim.SGD(self.net.parameters(), **{name: group[name] for name in own})

    def __call__(self, batch: dict) -> dict[str, float]:
        images, labels = batch["img"].to(self.device), batch["label"].to(self.device)
        loss, logits = self.net(images, labels)
        self.optim.zero_grad()
        if not torch.isfinite(loss).all():
            raise FloatingPointError("The loss of the field's step is infinite or NaN.")
        loss.backward()
        self.optim.step()
        return {"loss": loss.item(), "acc": compute_accuracy(logits, labels)[0].item()}
