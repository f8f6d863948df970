"""Pre-train the tiny CLIP of the embedded world: about 15 minutes on two CPU cores.

    python -m pretraining.pretrain --out clip/weights/vit_embedded_8.npz | tee pretraining/pretrain.log

First both towers together, with a small text tower; then the image tower is frozen and a larger text tower is
trained against it. See README.md beside this file for why each part of the recipe is there.

    B images      N patch tokens      L caption tokens      D width      d joint width
"""

import argparse
import copy
import math
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

import clip
from clip.model import CLIP, Edit
from datasets.embedded.atlas import S
from datasets.embedded.captions import caption
from datasets.embedded.styles import STYLES
from datasets.embedded.vocabulary import COLOUR_NAMES, SCENE_NAMES, SHAPE_NAMES, SPECIES_NAMES, TEXTURE_NAMES
from datasets.embedded.world import KINDS, draw, sample_scenes

WIDTH, JOINT, PATCH, LAYERS, VOCABULARY, CONTEXT = 128, 128, 8, 4, 49408, 77
GRID = S // PATCH
COMPACT = 1024  # rows of the token embedding while training: only the world's few hundred words occur
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(1, 3, 1, 1)


def new_clip(text_layers: int, vocabulary: int = COMPACT) -> CLIP:
    return CLIP(
        embed_dim=JOINT, image_resolution=S, vision_layers=LAYERS, vision_width=WIDTH, vision_patch_size=PATCH,
        context_length=CONTEXT, vocab_size=vocabulary, transformer_width=WIDTH, transformer_heads=WIDTH // 64,
        transformer_layers=text_layers,
    )  # fmt: skip


def normalise(pixels: np.ndarray) -> torch.Tensor:
    """(B, 3, S, S) uint8 -> CLIP's input."""
    return (torch.from_numpy(pixels).float() / 255 - MEAN) / STD


class CompactVocabulary:
    """Gives the token ids that occur small numbers, in order of appearance."""

    def __init__(self):
        self.small: dict[int, int] = {}

    def __call__(self, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Compact ids (n, L) up to the longest text, and where each text ends, (n,)."""
        tokens = clip.tokenize(texts)  # (n, 77)
        end = tokens.argmax(dim=1)
        tokens = tokens[:, : int(end.max()) + 1]
        small = [self.small.setdefault(token, len(self.small)) for token in tokens.flatten().tolist()]
        return torch.tensor(small).view(tokens.shape), end

    def full_embedding(self, compact: torch.Tensor) -> torch.Tensor:
        """(COMPACT, D) -> (VOCABULARY, D); rows of words that never occurred are zero."""
        full = torch.zeros(VOCABULARY, compact.shape[1])
        full[torch.tensor(list(self.small))] = compact[torch.tensor(list(self.small.values()))]
        return full


class KeepSome(Edit):
    """Shows the image encoder a random part of the patch tokens."""

    def __init__(self, kept: torch.Tensor):
        self.kept = kept  # (B, kept) indices of patches

    def embed(self, x):
        rows = torch.cat([torch.zeros_like(self.kept[:, :1]), self.kept + 1], dim=1)
        return x.gather(1, rows[..., None].expand(-1, -1, x.shape[2]))  # (B, 1 + kept, D)


# --- initialisation ----------------------------------------------------------------------------------------------


def mimetic_attention(blocks, width: int) -> None:
    """Trockman & Kolter, "Mimetic Initialization of Self-Attention Layers", 2023: QK' near I, VO near -I."""
    for block in blocks:
        queries, keys = [], []
        for _ in range(width // 64):
            u, s, v = torch.linalg.svd(0.7 * torch.randn(width, width) * width**-0.5 + 0.7 * torch.eye(width))
            queries.append((u[:, :64] * s[:64].sqrt()).t())
            keys.append(s[:64, None].sqrt() * v[:64])
        u, s, v = torch.linalg.svd(0.4 * torch.randn(width, width) * width**-0.5 - 0.4 * torch.eye(width))
        block.attn.in_proj_weight.data = torch.cat([*queries, *keys, (u * s.sqrt()).t()])
        block.attn.out_proj.weight.data = (s.sqrt()[:, None] * v).t().contiguous()
        block.attn.out_proj.bias.data.zero_()


def sine_positions(width: int) -> torch.Tensor:
    """(N, D): sines and cosines of row and column."""
    axis = torch.arange(GRID).float()
    planes = []
    for frequency in torch.logspace(0, math.log10(0.12), width // 4):
        for wave in (torch.sin(axis * frequency), torch.cos(axis * frequency)):
            planes += [wave[:, None].expand(GRID, GRID), wave[None].expand(GRID, GRID)]
    return 0.5 * torch.stack(planes, dim=-1).reshape(GRID * GRID, width)


def dct_filters(width: int) -> torch.Tensor:
    """(D, 3, PATCH, PATCH): low-frequency cosines, half of them on brightness, the rest on two colour axes."""
    place = torch.arange(PATCH).float() + 0.5
    waves = torch.stack([torch.cos(math.pi * place * k / PATCH) * (0.5 if k else 0.5**1.5) for k in range(PATCH)])
    order = sorted((i * i + j * j, i, j) for i in range(PATCH) for j in range(PATCH))
    axes = [
        ((0.577, 0.577, 0.577), width // 2),
        ((0.707, 0.0, -0.707), width // 4),
        ((0.408, -0.816, 0.408), width // 4),
    ]
    filters = [
        torch.tensor(axis)[:, None, None] * waves[i][:, None] * waves[j][None]
        for axis, count in axes
        for _, i, j in order[:count]
    ]
    return 0.6 * torch.stack(filters)[torch.randperm(width)]


# --- optimisation ------------------------------------------------------------------------------------------------


class Muon:
    """Jordan et al., "Muon", 2024: momentum whose matrix is orthogonalised by a Newton-Schulz iteration."""

    def __init__(self, parameters, momentum: float = 0.95, decay: float = 0.01):
        self.groups: dict[tuple, list] = {}
        for p in parameters:
            self.groups.setdefault(tuple(p.shape), []).append(p)
        self.momentum, self.decay = momentum, decay
        self.buffers = {shape: torch.zeros(len(ps), *shape) for shape, ps in self.groups.items()}

    @torch.no_grad()
    def step(self, lr: float) -> None:
        for (rows, columns), parameters in self.groups.items():
            gradient = torch.stack([p.grad for p in parameters])
            buffer = self.buffers[rows, columns].mul_(self.momentum).add_(gradient)
            parts = 3 if rows == 3 * columns else 1  # queries, keys and values are three matrices
            update = (gradient + self.momentum * buffer).view(-1, rows // parts, columns)
            update = self.orthogonal(update).view(-1, rows, columns) * max(1, rows / parts / columns) ** 0.5
            for p, change in zip(parameters, update, strict=True):
                p.mul_(1 - lr * self.decay).sub_(change, alpha=lr)

    @staticmethod
    def orthogonal(x: torch.Tensor) -> torch.Tensor:
        tall = x.shape[1] > x.shape[2]
        x = (x.mT if tall else x).bfloat16()
        x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
        for _ in range(5):
            gram = x @ x.mT
            x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
        return (x.mT if tall else x).float().contiguous()


def cosine(progress: float) -> float:
    return 0.5 + 0.5 * math.cos(math.pi * progress)


def contrastive_loss(
    images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor, captions: list[str]
) -> torch.Tensor:
    """CLIP's loss; pairs with the same caption are no negatives of each other."""
    logits = scale * F.normalize(images.float(), dim=1) @ F.normalize(texts.float(), dim=1).t()  # (B, B)
    _, number = np.unique(captions, return_inverse=True)
    number = torch.from_numpy(number)
    twins = (number[:, None] == number[None]) & ~torch.eye(len(captions), dtype=torch.bool)
    logits = logits.masked_fill(twins, -1e4)
    pair = torch.arange(len(captions))
    return (F.cross_entropy(logits, pair) + F.cross_entropy(logits.t(), pair)) / 2


# --- first stage: both towers, with help from the world's own labels -----------------------------------------------

ATTRIBUTES = {"shape": len(SHAPE_NAMES), "texture": len(TEXTURE_NAMES), "colour": len(COLOUR_NAMES), "second": len(COLOUR_NAMES), "scene": len(SCENE_NAMES), "style": len(STYLES)}  # fmt: skip


class Helpers(nn.Module):
    """Linear read-outs that are thrown away: attributes from the class token, labels from every patch token."""

    def __init__(self):
        super().__init__()
        self.attribute = nn.ModuleDict({name: nn.Linear(JOINT, count) for name, count in ATTRIBUTES.items()})
        self.patch = nn.ModuleDict({"shape": nn.Linear(JOINT, len(SHAPE_NAMES) + 1), "texture": nn.Linear(JOINT, len(TEXTURE_NAMES)), "scene": nn.Linear(JOINT, len(SCENE_NAMES))})  # fmt: skip

    def attribute_loss(self, features: torch.Tensor, labels: dict[str, torch.Tensor]) -> torch.Tensor:
        kind = labels["kind"]
        holds = {  # which pictures have the attribute
            "shape": is_object(kind), "texture": kind != 2, "colour": kind != 2,
            "second": (kind == 1) | (is_object(kind) & (labels["texture"] > 0)), "scene": kind != 1, "style": kind >= 0,
        }  # fmt: skip
        loss = 0
        for name, head in self.attribute.items():
            rows = holds[name]
            loss = (
                loss
                + F.cross_entropy(head(features[rows]).float(), labels[name][rows]) * (2 if name == "shape" else 1) / 7
            )
        return loss

    def patch_loss(self, tokens: torch.Tensor, kept: torch.Tensor, labels: dict[str, torch.Tensor]) -> torch.Tensor:
        """tokens (B, kept, d): what lies under each patch."""
        kind = labels["kind"]
        x, y = (kept % GRID) * PATCH + PATCH / 2, (kept // GRID) * PATCH + PATCH / 2
        distance = (x - labels["x"][:, None]) ** 2 + (y - labels["y"][:, None]) ** 2
        inside = (distance < (0.75 * labels["radius"][:, None]) ** 2) & is_object(kind)[:, None]  # (B, kept)
        textured = inside | (kind == 1)[:, None]
        shape = torch.where(inside, labels["shape"][:, None], len(SHAPE_NAMES))
        weight = torch.ones(len(SHAPE_NAMES) + 1)
        weight[-1] = 0.1  # most patches show no object
        shape_loss = F.cross_entropy(self.patch["shape"](tokens).float().flatten(0, 1), shape.flatten(), weight=weight)
        texture_loss = F.cross_entropy(
            self.patch["texture"](tokens[textured]).float(), labels["texture"][:, None].expand_as(kept)[textured]
        )
        scene_loss = F.cross_entropy(
            self.patch["scene"](tokens[~textured]).float(), labels["scene"][:, None].expand_as(kept)[~textured]
        )
        return (shape_loss + 0.5 * texture_loss + 0.3 * scene_loss) / 2


def is_object(kind):
    return (kind == 0) | (kind == 3)


def ease(rng, scenes, progress: float, until: float = 0.35):
    """The curriculum: at first large, central objects in plain photos, the full distribution from `until` on."""
    easiness = max(0.0, 1 - progress / until)
    easy = rng.random(len(scenes)) < easiness
    spread = 10 * (1 - easiness) + 1
    scenes.style[easy], scenes.distractors[easy] = 0, 0
    scenes.radius[easy] = rng.uniform(22, 28, int(easy.sum()))
    scenes.x[easy] = S / 2 + rng.uniform(-spread, spread, int(easy.sum()))
    scenes.y[easy] = S / 2 + rng.uniform(-spread, spread, int(easy.sum()))
    return scenes


def train_both(args, words: CompactVocabulary) -> CLIP:
    rng = np.random.default_rng(args.seed)
    model = new_clip(text_layers=2)
    mimetic_attention(model.visual.transformer.resblocks, WIDTH)
    model.visual.positional_embedding.data[1:] = sine_positions(WIDTH)
    model.visual.conv1.weight.data = dct_filters(WIDTH)
    master = nn.ModuleList([model, Helpers()])  # fp32
    working = copy.deepcopy(master).bfloat16()  # what computes: three times as fast on a CPU that knows bf16
    fast, helpers = working
    matrices = [
        weight
        for tower in (model.visual.transformer, model.transformer)
        for block in tower.resblocks
        for weight in (
            block.attn.in_proj_weight,
            block.attn.out_proj.weight,
            block.mlp.c_fc.weight,
            block.mlp.c_proj.weight,
        )
    ]
    of_muon = {id(p) for p in matrices}
    rest = [p for p in master.parameters() if id(p) not in of_muon]
    decayed = [p for p in rest if p.ndim == 2 and p.shape[0] != COMPACT]
    plain = [p for p in rest if not (p.ndim == 2 and p.shape[0] != COMPACT)]
    adam = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}],
        args.lr,
        betas=(0.9, 0.98),
        fused=True,
    )
    muon = Muon(matrices)
    judge = Judge(words)
    started, shown = time.monotonic(), 0.0
    for step in range(args.steps):
        progress = step / args.steps
        speed = min(1, (step + 1) / 30) * cosine(progress) + 1e-3
        scenes = ease(rng, sample_scenes(rng, args.batch), progress)
        captions = [caption(rng, scenes, i) for i in range(len(scenes))]
        images = normalise(draw(rng, scenes)).bfloat16()
        tokens, end = words(captions)
        labels = {name: torch.from_numpy(np.asarray(value)) for name, value in vars(scenes).items()}
        with torch.no_grad():
            torch._foreach_copy_(list(working.parameters()), list(master.parameters()))
        kept = torch.rand(args.batch, GRID * GRID).argsort(dim=1)[:, : 48 if progress < 0.85 else GRID * GRID]
        features, patches = fast.encode_image(images, edits=(KeepSome(kept),), tokens=True)
        texts = fast.encode_prompts(fast.token_embedding(tokens), end, (), int(end.max()) + 1)
        contrast = contrastive_loss(features, texts, model.logit_scale.exp(), captions)
        help_weight = 0.25 + 0.75 * (1 - progress)
        help_loss = helpers.attribute_loss(features, labels) + helpers.patch_loss(patches, kept, labels)
        for p in [*working.parameters(), model.logit_scale]:
            p.grad = None
        (contrast + help_weight * help_loss).backward()
        for p, q in zip(master.parameters(), working.parameters(), strict=True):
            if p is not model.logit_scale and q.grad is not None:
                p.grad = q.grad.float()
        nn.utils.clip_grad_norm_(rest, 1.0)
        for group in adam.param_groups:
            group["lr"] = args.lr * speed
        adam.step()
        muon.step(args.muon * speed)
        model.logit_scale.data.clamp_(0, math.log(100))
        shown = contrast.item() if step == 0 else 0.95 * shown + 0.05 * contrast.item()
        if (step + 1) % 100 == 0 or step + 1 == args.steps:
            print(
                f"{time.monotonic() - started:4.0f} s  step {step + 1}  images {(step + 1) * args.batch}  loss {shown:.3f}  scale {model.logit_scale.exp():.1f}  {judge(fast)}",
                flush=True,
            )
    return model


class Judge:
    """Zero-shot accuracy on fresh pictures of the pre-training distribution."""

    def __init__(self, words: CompactVocabulary):
        rng = np.random.default_rng(99)
        self.tasks = {}
        for name, kind, names, template in (
            ("shape", "object", SHAPE_NAMES, "a photo of a {}."),
            ("texture", "texture", TEXTURE_NAMES, "a photo of a {} texture."),
            ("species", "species", SPECIES_NAMES, "a photo of a {}."),
            ("scene", "scene", SCENE_NAMES, "a photo of a {}."),
        ):
            scenes = sample_scenes(rng, 8000)
            scenes = scenes[np.flatnonzero(scenes.kind == KINDS.index(kind))[:300]]
            labels = torch.from_numpy(getattr(scenes, name))
            self.tasks[name] = normalise(draw(rng, scenes)), words([template.format(n) for n in names]), labels

    @torch.no_grad()
    def __call__(self, model: CLIP) -> str:
        scores = []
        for name, (images, (tokens, end), labels) in self.tasks.items():
            features = F.normalize(model.encode_image(images.to(model.dtype)).float(), dim=1)
            texts = F.normalize(
                model.encode_prompts(model.token_embedding(tokens), end, (), int(end.max()) + 1).float(), dim=1
            )
            scores.append(f"{name} {100 * ((features @ texts.t()).argmax(1) == labels).float().mean():.1f}")
        return "  ".join(scores)


# --- second stage: a larger text tower against the frozen image tower ----------------------------------------------


def train_text(args, words: CompactVocabulary, first: CLIP) -> CLIP:
    rng = np.random.default_rng(args.seed + 1)
    started = time.monotonic()
    model = new_clip(text_layers=4)
    model.visual.load_state_dict(first.visual.state_dict())
    model.visual.requires_grad_(False)
    scenes = sample_scenes(rng, args.text_images)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        features = torch.cat(
            [
                model.encode_image(normalise(draw(rng, scenes[np.arange(i, i + 512)]))).float()
                for i in range(0, args.text_images, 512)
            ]
        )  # (n, d)
    model.logit_scale.data.fill_(math.log(40))
    learned = [p for p in model.parameters() if p.requires_grad]
    adam = torch.optim.AdamW(learned, 1.5e-3, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    judge, batch, step = Judge(words), 256, 0
    total = args.text_epochs * (args.text_images // batch)
    for epoch in range(args.text_epochs):
        order = rng.permutation(args.text_images)
        for start in range(0, args.text_images - batch + 1, batch):
            rows = order[start : start + batch]
            captions = [caption(rng, scenes, i) for i in rows]
            tokens, end = words(captions)
            for group in adam.param_groups:
                group["lr"] = 1.5e-3 * min(1, (step + 1) / 30) * cosine(step / total)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                texts = model.encode_prompts(model.token_embedding(tokens), end, (), int(end.max()) + 1)
            loss = contrastive_loss(features[rows], texts, model.logit_scale.exp(), captions)
            adam.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(learned, 1.0)
            adam.step()
            model.logit_scale.data.clamp_(math.log(40), math.log(100))
            step += 1
        print(
            f"{time.monotonic() - started:4.0f} s  text epoch {epoch + 1}  loss {loss.item():.3f}  scale {model.logit_scale.exp():.1f}  {judge(model)}",
            flush=True,
        )
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="clip/weights/vit_embedded_8.npz")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1.5e-3, help="AdamW's, for vectors and embeddings")
    parser.add_argument("--muon", type=float, default=0.02, help="Muon's, for the matrices of the blocks")
    parser.add_argument("--text-images", type=int, default=20480)
    parser.add_argument("--text-epochs", type=int, default=10)
    args = parser.parse_args()
    torch.set_num_threads(2)
    torch.manual_seed(args.seed)
    words = CompactVocabulary()
    model = train_text(args, words, train_both(args, words))
    state = {name: value.detach() for name, value in model.state_dict().items()}
    state["token_embedding.weight"] = words.full_embedding(state["token_embedding.weight"])
    clip.checkpoint.save_npz(state, args.out)
    print(f"written: {args.out}")


if __name__ == "__main__":
    main()
