"""Every method on a GPU computes what it computes on a CPU: logits, losses and gradients, in every precision.

The CPU's fp32 is the reference. Both trainers are the same seed's, on the embedded world; what the reference has
learned is loaded into the other, so that each number is of the same weights.

    B images      C classes      P learned numbers
"""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.embedded import trainer_on
from clip import InputError
from dassl.engine import TRAINER_REGISTRY
from one_run.config import options_of
from trainers.spotlighter import SpotlighterOverHost

from .cells import Settings, cell

SET = "species"


class Form(NamedTuple):
    """A method as it is compared."""

    method: str  # its registered name
    host: str  # whose precision it is
    config: str = "embedded"
    options: tuple = ()


def form(config: str = "embedded", host: str = "CoOp", **keys) -> Form:
    """One of Spotlighter's."""
    pairs = [(f"TRAINER.SPOTLIGHTER.{key}", value) for key, value in keys.items()]
    return Form("Spotlighter", host, config, tuple(part for pair in pairs for part in pair))


FORMS = {
    "Spotlighter, KEEP 0.6": form(KEEP=0.6),
    "Spotlighter, ZOOM 3": form(ZOOM=3),
    "Spotlighter, KEEP 0.6, ZOOM 3": form(KEEP=0.6, ZOOM=3),
    "Spotlighter, HEAD full": form(HEAD="full"),
    "Spotlighter, JOINT": form(JOINT=True),
    "Spotlighter over MaPLe": form("embedded_maple", "MaPLe"),
    "Spotlighter over CoCoOp": form("embedded_cocoop", "CoCoOp"),
}
QUICK = ("CoOp", "Spotlighter, KEEP 0.6")
# The furthest that each may be from the CPU's fp32, relative to that. "tf32" is fp32 as PyTorch has it: with convolutions
# in TF32. Measured on the CPU's and the pretended GPU's kernels, the half precisions are at a fifth of this or less.
HALF = {"logits": 0.01, "loss": 0.02, "gradient": 0.1}
FURTHEST = {
    "fp32": {"logits": 1e-4, "loss": 1e-4, "gradient": 1e-4},
    "tf32": {"logits": 0.01, "loss": 0.01, "gradient": 0.02},
    "fp16": HALF,
    "amp": HALF,
    "bf16": {"logits": 0.05, "loss": 0.15, "gradient": 0.4},
}
IMAGES = 16  # of the test
SCALE = 16.0  # of amp's losses: PromptKD's are large


class Numbers(NamedTuple):
    logits: Tensor  # (B, C)
    fitted: Tensor | None  # (B, C) of a head that was fitted there, not on the CPU
    losses: Tensor  # of the steps of an epoch
    gradient: Tensor  # (P,) of the last step


def methods() -> dict[str, Form]:
    """By label: all methods of `trainers`, and Spotlighter's forms."""
    kinds = {name: TRAINER_REGISTRY.get(name) for name in TRAINER_REGISTRY.registered_names()}
    ours = {name: kind for name, kind in kinds.items() if kind.__module__.startswith("trainers.")}
    return {name: Form(name, "CoOp" if hasattr(kind, "host_key") else name) for name, kind in ours.items()} | FORMS


def cells(settings: Settings) -> Iterator[dict]:
    with contextlib.redirect_stdout(io.StringIO()):
        teacher = write_teacher(settings)
    for label, each in methods().items():
        if settings.quick and label not in QUICK:
            continue
        if each.method == "PromptKD":
            each = each._replace(options=("TRAINER.PROMPTKD.TEACHER_DIR", teacher))
        yield cell(settings, label, lambda each=each: compare(settings, each))


def write_teacher(settings: Settings) -> str:
    """The folder of a PromptSRC that has learned nothing yet, for PromptKD."""
    folder = str(Path(settings.folder) / "teacher")
    build(settings, Form("PromptSRC", "PromptSRC"), use_cuda=False, precision="fp32").save_model(0, folder)
    return folder


def build(settings: Settings, form: Form, *, use_cuda: bool, precision: str, options: tuple = ()):
    """The trainer on the drawn pictures: few shots, in two steps an epoch."""
    given = {
        "USE_CUDA": use_cuda,
        "DATASET.NUM_SHOTS": 4,
        "DATALOADER.TRAIN_X.BATCH_SIZE": 16,
        "OUTPUT_DIR": settings.folder,
        "FEATURES.DIR": "",  # each computes its own, on its own device
        f"TRAINER.{TRAINER_REGISTRY.get(form.host).config_node}.PREC": precision.replace("tf32", "fp32"),
    }
    all_options = [*options_of(given), *form.options, *options]
    return trainer_on(settings.pictures, SET, 1, form.method, all_options, form.config)


def compare(settings: Settings, form: Form) -> dict:
    """Precision -> how far its numbers are from the CPU's."""
    wanted, states = numbers(build(settings, form, use_cuda=False, precision="fp32"))
    record: dict = {"distances": {}}
    for precision in settings.precisions:
        try:
            trainer = build(settings, form, use_cuda=settings.use_cuda, precision=precision)
        except InputError:  # ProGrad has no amp, nor has JOINT
            if precision != "amp":
                raise
            continue
        with contextlib.nullcontext() if precision == "tf32" else without_tf32():
            record["distances"][precision] = distances(numbers(trainer, states)[0], wanted)
    far = list(too_far(record["distances"]))
    return record | ({"failed": f"further from the CPU than allowed: {'; '.join(far)}"} if far else {})


def too_far(found: dict) -> Iterator[str]:
    """Precision, figure, and how far, of what is beyond `FURTHEST`; what is no number is."""
    for precision, figures in found.items():
        for name, furthest in FURTHEST[precision].items():
            if name in figures and not figures[name] <= furthest:
                yield f"{precision} {name} {figures[name]:.1e}, at most {furthest:g}"


def numbers(trainer, states: dict | None = None) -> tuple[Numbers, dict]:
    """What a trainer computes, with learned tensors that are given (model -> state dict) or its own, which are returned."""
    trainer.init_writer = lambda folder: None  # nobody reads it
    trainer.before_train()
    if trainer.grad_scaler():  # its first steps would be passed over, until its scale is as small
        trainer.scaler = torch.amp.GradScaler(trainer.device.type, init_scale=SCALE)
    fitted = None
    if isinstance(trainer, SpotlighterOverHost):
        trainer.fit_head()
        fitted = None if states is None else test_logits(trainer)
    for name, model in trainer._models.items():
        if states is not None:
            model.load_state_dict(states[name])
    own = {name: {key: copied(value) for key, value in model.state_dict().items()} for name, model in trainer._models.items()}  # fmt: skip
    return Numbers(test_logits(trainer), fitted, *an_epoch(trainer)), own


def copied(value):
    return value.detach().cpu().clone() if torch.is_tensor(value) else value


@torch.no_grad()
def test_logits(trainer) -> Tensor:
    """(B, C) of the first test images."""
    trainer.set_model_mode("eval")
    images, _ = trainer.parse_batch_test(next(iter(trainer.test_loader)))
    return trainer.model_inference(images[:IMAGES]).float().cpu()


def an_epoch(trainer) -> tuple[Tensor, Tensor]:
    """The losses of its steps, and the gradient (P,) of the last one."""
    losses = noted_losses(trainer)
    for model in trainer._models.values():
        model.zero_grad()  # a fit has left some
    torch.manual_seed(1)  # the order of the images
    trainer.epoch = 0
    if trainer.get_model_names():
        trainer.run_epoch()
    learned = [p for model in trainer._models.values() for p in model.parameters() if p.grad is not None]
    gradient = [p.grad.float().flatten().cpu() for p in learned]
    return torch.stack(losses).float().cpu() if losses else torch.empty(0), torch.cat(gradient or [torch.empty(0)])


def noted_losses(trainer) -> list[Tensor]:
    """To which each step adds its own."""
    losses, step = [], trainer.forward_backward

    def noted(batch):
        shown = step(batch)
        losses.append(shown["loss"].detach())
        return shown

    trainer.forward_backward = noted
    return losses


def distances(found: Numbers, wanted: Numbers) -> dict[str, float]:
    """How far the numbers are from those that are wanted, relative to these."""
    record = {
        "logits": relative(centred(found.logits), centred(wanted.logits)),
        "same_class": (found.logits.argmax(dim=1) == wanted.logits.argmax(dim=1)).float().mean().item(),
    }
    if len(wanted.losses):
        record["loss"] = ((found.losses - wanted.losses).abs() / wanted.losses.abs()).max().item()
        record["gradient"] = relative(found.gradient, wanted.gradient)
    if found.fitted is not None:
        record["logits_fitted_there"] = relative(centred(found.fitted), centred(wanted.logits))
    return record


def centred(logits: Tensor) -> Tensor:
    """(B, C), less what all classes of an image share, which a softmax does not see."""
    return logits - logits.mean(dim=1, keepdim=True)


def relative(found: Tensor, wanted: Tensor) -> float:
    return ((found - wanted).norm() / wanted.norm()).item()


@contextlib.contextmanager
def without_tf32():
    """Products and convolutions in fp32 proper; PyTorch rounds what goes into the latter to TF32 by itself."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
