"""The encoders with prompts, again in plain loops over CLIP's blocks; and what tests of methods with deep prompts share."""

import torch
import torch.nn.functional as F

import train
from clip.simple_tokenizer import SimpleTokenizer
from dassl.engine import build_trainer
from tests.clip_weights import SMALL

# The encoders differ in width and depth, so that neither can be taken for the other.
SIZES = SMALL | dict(vision_layers=4, transformer_layers=3, transformer_width=64, transformer_heads=1)
RESNET = SMALL | dict(vision_layers=(1, 1, 1, 1), vision_width=8, vision_patch_size=None)
NAMES = ["cat", "german_shepherd", "ice cream"]
START, END = 49406, 49407
encode_words = SimpleTokenizer().encode


def tokens_by_hand(model, images, prompts):
    """Unit rows (B, 1 + N, d) of the class token and the patches, with prompts [(m, D)] for the first blocks."""
    visual = model.visual
    x = visual.conv1(images).flatten(2).transpose(1, 2)
    x = torch.cat([visual.class_embedding.expand(len(x), 1, -1), x], dim=1) + visual.positional_embedding
    own = x.shape[1]
    if prompts:
        x = torch.cat([x, torch.stack([prompts[0]] * len(x))], dim=1)
    x = visual.ln_pre(x)
    for i, block in enumerate(visual.transformer.resblocks):
        if 0 < i < len(prompts):
            x = torch.cat([x[:, :own], torch.stack([prompts[i]] * len(x))], dim=1)
        x, _ = block(x)
    return F.normalize(visual.ln_post(x[:, :own]) @ visual.proj, dim=-1)


def texts_by_hand(model, names, ctx, deeper, rest=""):
    """Unit rows (n, d) of: start, `ctx`, `rest`, name, full stop, end; `deeper` [(m, D)] are for blocks 1, 2, ..."""
    rows, m = [], len(ctx)
    for name in names:
        words = encode_words(f"{rest} {name.replace('_', ' ')}.")
        start, after = model.token_embedding(torch.tensor([START, *words, END])).split([1, len(words) + 1])
        x = torch.cat([start, ctx, after])
        x = (x + model.positional_embedding[: len(x)])[None]
        for i, block in enumerate(model.transformer.resblocks):
            if 0 < i <= len(deeper):
                x = torch.cat([x[:, :1], deeper[i - 1][None], x[:, 1 + m :]], dim=1)
            x, _ = block(x, causal=True)
        rows.append(F.normalize(model.ln_final(x[0, -1]) @ model.text_projection, dim=-1))
    return torch.stack(rows)


def moved(learner, by=0.3):
    """Learned values at which every prompt matters."""
    torch.manual_seed(1)
    with torch.no_grad():
        for value in learner.parameters():
            value += by * torch.randn_like(value)
    return learner


def built(line):
    return build_trainer(train.build_config(train.parse_arguments(line)))


def write_checkpoint(folder, name, state):
    (folder / name).mkdir(parents=True)
    state = {key: value.detach().clone() for key, value in state.items()}
    torch.save({"state_dict": state, "epoch": 5}, folder / name / "model.pth.tar-5")


def as_published(model):
    """The prompts under the names of the authors' checkpoints, with some of what else these hold."""
    learner = model.prompt_learner
    state = {"image_encoder.conv1.weight": model.clip.visual.conv1.weight, "logit_scale": model.clip.logit_scale}
    if hasattr(learner, "ctx"):
        state |= {"prompt_learner.ctx": learner.ctx, "prompt_learner.token_prefix": torch.zeros(5, 1, 128)}
    for i, prompt in enumerate(learner.visual):
        where = f"transformer.resblocks.{i}.VPT_shallow" if i else "VPT"
        state[f"image_encoder.{where}"] = prompt
    for i, prompt in enumerate(learner.text):
        state[f"text_encoder.transformer.resblocks.{i + 1}.VPT_shallow"] = prompt
    return state
