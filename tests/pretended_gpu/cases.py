"""Whole runs on the pretended GPU: every method, and Spotlighter in every form, in every precision."""

from typing import NamedTuple
from unittest import mock

from tests.helpers import REPOSITORY, arguments
from tests.trainers.by_hand import RESNET, SIZES

SPOT = "TRAINER.SPOTLIGHTER."
PRECISIONS = ("fp32", "fp16", "bf16", "amp")
EPOCHS = 2


class Form(NamedTuple):
    """A method, or a form of one."""

    trainer: str
    options: tuple = ()
    host: str = ""  # whose config and keys it takes, if it stands on one
    not_in: tuple[str, ...] = ()  # precisions that it refuses
    backbone: str = "vit"  # of `save_clips`

    @property
    def trains(self) -> bool:
        """Whether a host or method of its own learns something, so that there is a checkpoint to go on from."""
        return not (self.host or self.trainer).startswith("ZeroshotCLIP")


def over(host: str = "CoOp", fit: bool = False, not_in: tuple[str, ...] = (), **keys) -> Form:
    """Spotlighter over a host; keys in capitals are its own."""
    own = [part for name, value in keys.items() for part in (SPOT + name, value)]
    return Form("Spotlighter", (SPOT + "HOST", host, SPOT + "FIT", fit, *own), host, not_in)


METHODS = ("ATPrompt", "CLAP", "CLIPAdapter", "CLIPFit", "CLIPLoRA", "CoCoOp", "CoOp", "GDA", "IVLP", "KgCoOp", "LinearProbe", "MMA", "MMRL", "MMRLpp", "MaPLe", "ProGrad", "PromptKD", "PromptSRC", "TCP", "TaskRes", "TextRefiner", "TipAdapter", "TipAdapterF", "VPT", "ZeroshotCLIP", "ZeroshotCLIP2")  # fmt: skip
NO_HOSTS = ("GDA", "LinearProbe", "TipAdapter", "TipAdapterF")  # of Spotlighter
HOSTS = [name for name in METHODS if name not in NO_HOSTS]
NO_AMP = {"ProGrad": ("amp",)}
FORMS = {
    **{name: Form(name, not_in=NO_AMP.get(name, ())) for name in METHODS},
    **{f"over {name}": over(name, not_in=NO_AMP.get(name, ())) for name in HOSTS},
    "CoOp on a ResNet": Form("CoOp", backbone="resnet"),
    "ATPrompt, deep": Form("ATPrompt", ("TRAINER.ATPROMPT.PROMPT_DEPTH", 2)),
    "DePT": Form("DePT", ("TRAINER.DEPT.HOST", "CoOp"), "CoOp"),
    "DePT over MaPLe": Form("DePT", ("TRAINER.DEPT.HOST", "MaPLe"), "MaPLe"),
    "fit": over(fit=True),
    "zoom": over(ZOOM=1),
    "zoom over CoCoOp": over("CoCoOp", ZOOM=3),
    "drop": over(KEEP=0.6, DROP_AFTER=(1, 2)),
    "drop and zoom": over("MaPLe", KEEP=0.6, ZOOM=1),
    **{f"drop by {score}": over(KEEP=0.6, SCORE=score) for score in ("attention", "prototypes", "random")},
    "budget": over("MaPLe", BUDGET=2.0),
    "budget below one": over(BUDGET=0.8, SCORE="attention"),
    "joint": over(JOINT=True, not_in=("amp",)),
    "joint over MaPLe": over("MaPLe", JOINT=True, not_in=("amp",)),
    "full": over(HEAD="full", fit=True),
    "paper": over(HEAD="paper", JOINT=True, not_in=("amp",)),
    "full and zoom": over(HEAD="full", ZOOM=1),
    "level losses": over(fit=True, **{"LOSS.LEVELS": 0.5}),
    "all at once": over("PromptSRC", fit=True, HEAD="full", KEEP=0.6, ZOOM=3, JOINT=True, not_in=("amp",)),
}

# Those of `make test`: each form once, each precision often, and mixed precision where something learns in its own way.
QUICK = {
    "ATPrompt": "amp", "ATPrompt, deep": "fp16", "over ATPrompt": "bf16", "CLIPAdapter": "fp16 amp", "CLIPFit": "bf16", "CoCoOp": "amp", "CoOp": "fp16 amp", "CoOp on a ResNet": "fp16", "IVLP": "fp32", "KgCoOp": "amp", "MaPLe": "fp16", "ProGrad": "bf16",
    "MMA": "amp", "MMRL": "amp", "MMRLpp": "fp16", "PromptKD": "amp", "PromptSRC": "fp32", "TCP": "amp", "TextRefiner": "amp", "VPT": "bf16", "ZeroshotCLIP": "fp16", "ZeroshotCLIP2": "amp",
    "TipAdapter": "fp16 amp", "TipAdapterF": "fp16 amp", "CLAP": "fp16 amp", "CLIPLoRA": "fp16 amp", "GDA": "fp16 amp", "LinearProbe": "fp16 amp", "TaskRes": "bf16 amp",
    "over CLAP": "bf16", "over CLIPAdapter": "bf16", "over CLIPFit": "fp16", "over CLIPLoRA": "fp32", "over TaskRes": "fp16", "over CoCoOp": "bf16", "over CoOp": "fp32", "over IVLP": "fp16", "over KgCoOp": "bf16", "over MaPLe": "amp",
    "over ProGrad": "fp32", "over PromptKD": "fp16", "over MMA": "fp16", "over MMRL": "fp16", "over MMRLpp": "bf16", "over PromptSRC": "bf16", "over TCP": "fp16", "over TextRefiner": "fp16", "over VPT": "amp",
    "over ZeroshotCLIP": "fp32", "over ZeroshotCLIP2": "bf16", "DePT": "amp", "DePT over MaPLe": "fp16", "fit": "amp", "zoom": "amp fp16", "drop": "fp16", "drop and zoom": "amp",
    "drop by attention": "amp", "drop by prototypes": "bf16", "drop by random": "fp16", "budget": "fp16", "budget below one": "amp", "joint": "fp16", "full": "amp",
    "paper": "fp16",
}  # fmt: skip


def cases() -> list[tuple[str, str, bool]]:
    """(form, precision, whether it is one of `QUICK`)."""
    return [
        (name, precision, precision in QUICK.get(name, "").split())
        for name, form in FORMS.items()
        for precision in PRECISIONS
        if precision not in form.not_in
    ]


def line(form: Form, precision: str, root, output, clips, teacher="", options=(), **flags) -> list[str]:
    """train.py's arguments: two epochs of a tiny CLIP with random weights."""
    method = form.host or form.trainer
    small = ["INPUT.SIZE", (32, 32), "DATALOADER.TRAIN_X.BATCH_SIZE", 6, f"TRAINER.{node(method)}.PREC", precision]
    if method in ("PromptSRC", "MaPLe", "IVLP", "TCP", "VPT", "MMA", "MMRL", "MMRLpp"):
        depths = {
            "MaPLe": ["PROMPT_DEPTH"],
            "TCP": ["BLOCK"],
            "MMA": ["ADAPTER_START", "ADAPTER_END"],
            "MMRL": ["REP_LAYERS"],
            "MMRLpp": ["REP_LAYERS"],
            "VPT": ["PROMPT_DEPTH_VISION"],
        }
        names = depths.get(method, ["PROMPT_DEPTH_VISION", "PROMPT_DEPTH_TEXT"])
        small += [
            part for name in names for part in (f"TRAINER.{node(method)}.{name}", (2,) if name == "REP_LAYERS" else 2)
        ]
    if method == "PromptKD":
        small += ["TRAINER.PROMPTKD.TEACHER_DIR", teacher, "TRAINER.PROMPTKD.TEACHER_NAME", clips["vit"]]
    file = REPOSITORY / f"configs/trainers/{method}/embedded.yaml"
    more = [
        "DETERMINISTIC",
        True,
        *small,
        *form.options,
        *(["OPTIM.MAX_EPOCH", EPOCHS] if form.trains else []),
        *options,
    ]
    return arguments(root, output, form.trainer, options=more, config_file=file, backbone=clips[form.backbone], **flags)


def node(method: str) -> str:
    """The method's node of config keys."""
    import trainers as trainers  # importing registers the methods
    from dassl.engine import TRAINER_REGISTRY

    return TRAINER_REGISTRY.get(method).config_node


def save_clips(folder) -> dict[str, str]:
    """CLIPs of random weights, as checkpoint files: kind -> path."""
    import torch

    from tests.clip_weights import random_state

    kinds = {"vit": SIZES, "resnet": RESNET}
    for kind, sizes in kinds.items():
        torch.save(random_state(sizes), folder / kind)
    return {kind: str(folder / kind) for kind in kinds}


def train_and_go_on(gpu, line: list[str], breaks_off: bool) -> dict:
    """A run that breaks off in its second epoch where 8 GPUs are visible, and goes on to its end where there is one."""
    import train
    from dassl.engine import SimpleTrainer
    from tests.trainers.spotlighter.world import SECOND_LOOK
    from trainers.spotlighter import fit, over_host

    before_epoch, choose = SimpleTrainer.before_epoch, over_host.choose_zoom

    def break_off(self):
        if self.epoch + 1 == EPOCHS:
            raise KeyboardInterrupt
        before_epoch(self)

    def look_again(head, shots, t, z, most, seed):
        """Whatever the choice is, there is a second look."""
        choose(head, shots, t, z, most, seed)
        return SECOND_LOOK._replace(count=most)

    short, zoom = mock.patch.object(fit, "FIT_STEPS", 10), mock.patch.object(over_host, "choose_zoom", look_again)
    with short, zoom, gpu.watched() as seen:
        if breaks_off:
            gpu.backend.devices = 8
            with mock.patch.object(SimpleTrainer, "before_epoch", break_off):
                expect(train.main(line), 130)
            gpu.backend.devices = 1
        expect(train.main(line), 0)
    assert gpu.backend.asked <= {0}, "the random numbers of GPUs that the run does not use"
    return {"operations": dict(seen.operations)}


def expect(code: int, wanted: int) -> None:
    if code != wanted:
        raise AssertionError(f"train.py ended with {code}, not {wanted}: see above.")
