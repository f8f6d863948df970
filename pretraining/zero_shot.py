"""Zero-shot accuracy of the tiny CLIP on the embedded sets, base and new half: python -m pretraining.zero_shot --part val

The sets' difficulty is tuned on `val`; `test` is for reporting.
"""

import argparse
import math

import numpy as np
import torch
import torch.nn.functional as F

import clip
from datasets.embedded.sets import SETS, draw_class
from pretraining.pretrain import normalise


@torch.no_grad()
def accuracy(model, set_name: str, names: list[str], part: str, world: int) -> float:
    """Percent right among these classes only."""
    template = "{} texture." if set_name == "textures" else "a photo of a {}."
    text = F.normalize(model.encode_text(clip.tokenize([template.format(name) for name in names])), dim=1)
    right = []
    for label, name in enumerate(names):
        features = F.normalize(model.encode_image(normalise(draw_class(set_name, part, name, world)[0])), dim=1)
        right.append((features @ text.t()).argmax(dim=1) == label)
    return 100 * torch.cat(right).float().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=["val", "test"], default="val")
    parser.add_argument("--world", type=int, default=0)
    args = parser.parse_args()
    model, _ = clip.load("ViT-Embedded/8", device="cpu")
    rows = []
    print(f"{'set':<16} classes   base    new  ({args.part}, world {args.world})")
    for set_name, facts in SETS.items():
        half = math.ceil(len(facts.names) / 2)
        halves = facts.names[:half], facts.names[half:]
        rows.append([accuracy(model, set_name, names, args.part, args.world) for names in halves])
        print(f"{set_name:<16} {len(facts.names):>7}  {rows[-1][0]:5.1f}  {rows[-1][1]:5.1f}", flush=True)
    mean = np.mean(rows[:5], axis=0)
    print(f"{'mean of first 5':<16}          {mean[0]:5.1f}  {mean[1]:5.1f}")


if __name__ == "__main__":
    main()
