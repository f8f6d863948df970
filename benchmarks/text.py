"""What a step of CoOp costs as classes grow: memory and processor time, with the text encoder in parts or at once.

    python -m benchmarks.text
    python -m benchmarks.text --classes 1000 --memory-mb 512 0 --precision bf16
    python -m benchmarks.text --quick

The text encoder is ViT-B/16's, with random weights; the image side is features at random, as CoOp's image encoder is
frozen. Each figure has a process of its own, so its peak of memory is its own: what the process holds beyond PyTorch and
the weights. Seconds are of all processor threads, which other programs on the machine disturb less than the clock; where
nothing is in parts, those of a step whose prompts are all padded to the longest stand beside them.
"""

import argparse
import sys
import time
from unittest.mock import patch

import torch
import torch.nn.functional as F
from yacs.config import CfgNode

from benchmarks.fps.predictors import HALF, VIT_B_16
from benchmarks.on_cpu import apart, held, peak, write_record
from clip.lengths import PRICES
from clip.model import CLIP, convert_weights
from dassl.utils import InputError
from one_run.command import carry_out
from trainers.shared.memory import LEAST_MB, MB, of_images
from trainers.shared.prompted_clip import PromptedCLIP
from trainers.shared.prompts import ContextLearner, of_imagenet

BATCH = 32  # images of a step
MOST = 1000  # classes
SMALL = {**VIT_B_16, "transformer_width": 64, "transformer_heads": 1, "transformer_layers": 2}
QUICK = ["--classes", "6", "--memory-mb", "0.6", "0", "--small"]


def build(args: argparse.Namespace, classes: int) -> PromptedCLIP:
    """CoOp's model; its image encoder is none to speak of."""
    torch.manual_seed(0)
    clip_model = CLIP(**{**(SMALL if args.small else VIT_B_16), "vision_layers": 1})
    if args.precision in HALF:
        convert_weights(clip_model, HALF[args.precision])
    keys = CfgNode({"N_CTX": args.context, "CTX_INIT": "", "CSC": args.csc})
    learner = ContextLearner(clip_model, class_names(classes), keys)
    return PromptedCLIP(clip_model.requires_grad_(False).eval(), learner)


def class_names(count: int = MOST) -> list[str]:
    """So many of ImageNet's, evenly taken: of one to a dozen tokens."""
    return [of_imagenet().IMAGENET_CLASSNAMES[i * MOST // count] for i in range(count)]


def step(model: PromptedCLIP, classes: int) -> None:
    """A loss of a batch, and its gradient; features and labels are the same each time."""
    generator = torch.Generator().manual_seed(0)
    f = F.normalize(torch.randn(BATCH, model.clip.text_projection.shape[1], generator=generator), dim=-1)
    labels = torch.randint(classes, (BATCH,), generator=generator)
    F.cross_entropy(model.logits(f, model.text_features()), labels).backward()


def timed(model: PromptedCLIP, classes: int) -> float:
    """Seconds of all processor threads for a step."""
    model.prompt_learner.ctx.grad = None
    start = time.process_time()
    step(model, classes)
    return time.process_time() - start


def measure(args: argparse.Namespace, classes: int, memory_mb: float) -> dict:
    """The record of a number of classes and a bound on memory, 0 for none."""
    torch.set_num_threads(args.threads)
    step(build(args, 2), 2)  # libraries and threads, and their memory, are PyTorch's
    model = build(args, classes)
    texts = model.prompt_learner.text_work(BATCH)
    if memory_mb:
        model.clip.text_memory = memory_mb * MB
    pieces, before = model.clip.text_parts(texts), held()
    seconds = timed(model, classes)
    record = {
        "classes": classes,
        "tokens": max(texts.lengths),
        "tokens_mean": sum(texts.lengths) / classes,
        "memory_mb": memory_mb or None,
        "parts": len(pieces),
        "counted_mib": max(model.clip.text_size(texts.piece(*piece), learns=True) for piece in pieces) / MB,
        "peak_mib": peak() - before,
        "cpu_seconds": seconds,
        "gradient": model.prompt_learner.ctx.grad.norm().item(),
    }
    if not memory_mb:  # beside it in one process: all prompts padded to the longest
        with patch.dict(PRICES, cpu=10**9):
            record["padded_cpu_seconds"] = timed(model, classes)
    return record


def image_side() -> dict:
    """MiB that a batch takes in ViT-B/16's image encoder, frozen and learned, by arithmetic."""
    with torch.device("meta"):
        visual = CLIP(**VIT_B_16).visual
    return {
        f"{precision} {'learned' if learns else 'frozen'}": of_images(visual, BATCH, dtype, learns) / MB
        for precision, dtype in (("fp32", torch.float32), ("16 bits", torch.bfloat16))
        for learns in (False, True)
    }


def run(args: argparse.Namespace, command: list[str]) -> None:
    if min(args.classes) < 2 or max(args.classes) > MOST or min(args.context, args.threads) < 1:
        raise InputError(f"--classes must be 2 to {MOST}, --context and --threads at least 1.")
    if min(args.memory_mb) < 0:
        raise InputError("--memory-mb must be at least 0, which is no bound.")
    runs = []
    for classes in args.classes:
        for memory_mb in args.memory_mb:
            runs.append(apart(measure, args, classes, memory_mb))
            print(
                "\n".join(f"{name:<15}{value or 0:10,.4g}" for name, value in runs[-1].items()), end="\n\n", flush=True
            )
    file = "text" if args.precision == "fp32" else f"text_{args.precision}"
    facts = {"threads": args.threads, "precision": args.precision, "image_side_mib": image_side(), "runs": runs}
    write_record("text", command, args.out, file, **facts)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.text", description=__doc__.splitlines()[0])
    parser.add_argument("--classes", nargs="+", type=int, default=[100, 500, 1000], help="numbers of classes")
    parser.add_argument(
        "--memory-mb", nargs="+", type=float, default=[LEAST_MB, 0], help="bounds, TRAINER.MEMORY_MB; 0: none"
    )
    parser.add_argument("--context", type=int, default=16, help="tokens of the learned context")
    parser.add_argument("--csc", action="store_true", help="a context for each class")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of the encoder")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch: one wastes none waiting for others")
    parser.add_argument("--small", action="store_true", help="a text encoder of two narrow blocks")
    parser.add_argument("--quick", action="store_true", help="a small size, to see that it works")
    parser.add_argument("--out", help="the JSON file (default: benchmarks/results/text_cpu.json)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Exit code 0; 2 for what the user can mend, in one sentence."""
    command = sys.argv[1:] if argv is None else argv
    args = parser().parse_args([*QUICK, *command] if "--quick" in command else command)
    return carry_out(lambda: run(args, command))


if __name__ == "__main__":
    sys.exit(main())
