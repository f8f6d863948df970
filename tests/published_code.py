"""One small seeded setting in which the authors' published code and ours are run, and what theirs gives in it.

    python -m tests.published_code --repository FOLDER --method CoOp

takes the trainer file and the `clip` of the authors' repository, checked out in FOLDER, puts them on the `dassl` and
the `datasets` of this repository, and writes their figures into `published_code.json`; `test_published_code.py`
compares ours with them. Everything is fp32 on the CPU: `.cuda()` and `.half()`, which published code calls anyway,
do nothing there.
"""

import argparse
import contextlib
import importlib
import importlib.util
import itertools
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest import mock

import numpy as np
import torch
from PIL import Image
from torch.utils.data import default_collate
from yacs.config import CfgNode

import datasets as datasets  # before the authors' folder can be searched: the data sets are ours on both sides
from dassl.config import get_cfg_default
from dassl.engine import TRAINER_REGISTRY, build_trainer
from dassl.utils import set_random_seed
from tests.published_scripts import RUNNERS, import_without_their_data_sets

RECORD = Path(__file__).with_suffix(".json")
CLASSES = ["airplane", "car_side", "dollar_bill", "inline_skate", "yin_yang"]  # of one to three words' tokens
SHOTS, BATCH, EPOCHS = 2, 5, 3
FIGURES = 8  # numbers recorded of a learned tensor, whatever its size

# The widths are those that published files hard-code; the depths are the least at which deep prompts show.
VISION, TEXT, JOINT, LAYERS, PATCH, SIZE, CONTEXT, VOCABULARY = 768, 512, 512, 3, 16, 48, 77, 49408

COMMON = {
    "SEED": 1,
    "USE_CUDA": False,
    "VERBOSE": False,
    "DATASET.NAME": "Caltech101",
    "DATASET.NUM_SHOTS": SHOTS,
    "DATASET.SUBSAMPLE_CLASSES": "all",
    "DATALOADER.NUM_WORKERS": 0,
    "DATALOADER.TRAIN_X.BATCH_SIZE": BATCH,
    "INPUT.SIZE": (SIZE, SIZE),
    "INPUT.INTERPOLATION": "bicubic",
    "INPUT.PIXEL_MEAN": [0.48145466, 0.4578275, 0.40821073],
    "INPUT.PIXEL_STD": [0.26862954, 0.26130258, 0.27577711],
    "INPUT.TRANSFORMS": ("normalize",),
    "MODEL.BACKBONE.NAME": "ViT-B/16",
    "OPTIM.NAME": "sgd",
    "OPTIM.LR": 0.002,
    "OPTIM.MAX_EPOCH": EPOCHS,
    "OPTIM.LR_SCHEDULER": "cosine",
    "OPTIM.WARMUP_EPOCH": 1,
    "OPTIM.WARMUP_TYPE": "constant",
    "OPTIM.WARMUP_CONS_LR": 0.001,
    "TEST.NO_TEST": True,
}
COOP = {"N_CTX": 4, "CSC": False, "CTX_INIT": "", "CLASS_TOKEN_POSITION": "end", "PREC": "fp32"}
DEEP = {"N_CTX_VISION": 2, "N_CTX_TEXT": 2, "CTX_INIT": "a photo of a", "PREC": "fp32"}
MMA = {"ADAPTER_START": 2, "ADAPTER_END": 3, "ADAPTER_DIM": 8, "ADAPTER_SCALE": 0.02, "PREC": "fp32"}
MMRL = {"ALPHA": 0.7, "REG_WEIGHT": 3.0, "N_REP_TOKENS": 2, "REP_LAYERS": (2, 3), "REP_DIM": 24, "PREC": "fp32"}
DEPTHS = {"PROMPT_DEPTH_VISION": 3, "PROMPT_DEPTH_TEXT": 2}


def tree(node: str, keys: dict) -> dict:
    return {f"TRAINER.{node}.{key}": value for key, value in keys.items()}


# Where the authors' trainers are: repository, the folder in it that is searched for modules, the module.
COOP_CODE = ("KaiyangZhou/CoOp", ".")
MAPLE_CODE = ("muzairkhattak/multimodal-prompt-learning", ".")
KGCOOP_CODE = ("htyao89/KgCoOp", "KgCoOp")
MMRL_CODE = ("yunncheng/MMRL", ".")
TCP_CODE = ("htyao89/Textual-based_Class-aware_prompt_tuning", ".")
ATPROMPT_CODE = ("zhengli97/ATPrompt", ".")
ATTRIBUTES = tree("ATPROMPT", {"USE_ATPROMPT": True, "ATT_NUM": 2, "ATT1_TEXT": "shape", "ATT2_TEXT": "size", "ATT3_TEXT": "none", "N_ATT1": 2, "N_ATT2": 2, "N_ATT3": 2})  # fmt: skip
DEPT_CODE = ("Koorye/DePT", ".")
DEPT = {
    **tree("LINEAR_PROBE", {"TYPE": "linear", "WEIGHT": 0.7, "TEST_TIME_FUSION": True}),
    **{"TRAINER.FILM.LINEAR_PROBE": True, "TRAINER.NAMES_TO_UPDATE": ["prompt_learner", "linear_probe", "film"]},
    **{"OPTIM.STAGED_LR": True, "OPTIM.NEW_LAYERS": ["linear_probe", "film"], "OPTIM.LR_EXP": 6.5, "OPTIM.BASE_LR_MULT": 1.0},
    "DATASET.SUBSAMPLE_CLASSES": "base",  # it trains on nothing else
}  # fmt: skip

# name -> registered name (theirs), code, module, keys
CASES = {
    "ZeroshotCLIP": ("ZeroshotCLIP", COOP_CODE, "trainers.zsclip", {}),
    "ZeroshotCLIP2": ("ZeroshotCLIP2", COOP_CODE, "trainers.zsclip", {}),
    "CoOp": ("CoOp", COOP_CODE, "trainers.coop", tree("COOP", COOP | {"CTX_INIT": "a photo of a"})),
    "CoOp random": ("CoOp", COOP_CODE, "trainers.coop", tree("COOP", COOP | {"N_CTX": 16})),
    "CoOp CSC": ("CoOp", COOP_CODE, "trainers.coop", tree("COOP", COOP | {"CSC": True})),
    "CoOp middle": ("CoOp", COOP_CODE, "trainers.coop", tree("COOP", COOP | {"CLASS_TOKEN_POSITION": "middle"})),
    "CoOp front": ("CoOp", COOP_CODE, "trainers.coop", tree("COOP", COOP | {"CLASS_TOKEN_POSITION": "front"})),
    "CoCoOp": (
        "CoCoOp", COOP_CODE, "trainers.cocoop",
        tree("COCOOP", {"N_CTX": 4, "CTX_INIT": "a photo of a", "PREC": "fp32"}),
    ),
    "KgCoOp": (
        "KgCoOp", KGCOOP_CODE, "trainers.kgcoop",
        tree("COOP", COOP | {"CTX_INIT": True, "W": 8.0}) | tree("COCOOP", {"PREC": "fp32"}),
    ),
    "VPT": ("VPT", MAPLE_CODE, "trainers.vpt", tree("VPT", {"N_CTX_VISION": 2, "CTX_INIT": "a photo of a", "PREC": "fp32", "PROMPT_DEPTH_VISION": 3})),
    "IVLP": ("IVLP", MAPLE_CODE, "trainers.independentVL", tree("IVLP", DEEP | DEPTHS)),
    "MaPLe": ("MaPLe", MAPLE_CODE, "trainers.maple", tree("MAPLE", {"N_CTX": 2, "CTX_INIT": "a photo of a", "PREC": "fp32", "PROMPT_DEPTH": 3})),
    "PromptSRC": (
        "PromptSRC", ("muzairkhattak/PromptSRC", "."), "trainers.promptsrc",
        tree("PROMPTSRC", DEEP | DEPTHS | {"TEXT_LOSS_WEIGHT": 25, "IMAGE_LOSS_WEIGHT": 10, "GPA_MEAN": 2, "GPA_STD": 1}),
    ),
    "CLIPAdapter": ("CLIP_Adapter", ("gaopengcuhk/CLIP-Adapter", "."), "clip_adapter", {}),
    "CLIPFit": ("CoOp_Fit", ("minglllli/CLIPFit", "CLIPFit"), "trainers.ClipFit", tree("COOP", COOP)),
    "GDA": ("", ("mrflogs/ICLR24", "."), "main_few_shots", {}),
    "GDA base": ("", ("mrflogs/ICLR24", "."), "main_base2new", {}),
    "GDA new": ("", ("mrflogs/ICLR24", "."), "main_base2new", {}),
    "CLIPLoRA": (
        "", ("MaxZanella/CLIP-LoRA", "."), "lora", {"OPTIM.NAME": "adamw", "OPTIM.WEIGHT_DECAY": 0.01, "OPTIM.WARMUP_EPOCH": 0},
    ),
    "TipAdapter": ("", ("gaopengcuhk/Tip-Adapter", "."), "main", {}),
    "TipAdapterF": (
        "", ("gaopengcuhk/Tip-Adapter", "."), "main",
        {"OPTIM.NAME": "adamw", "OPTIM.LR": 0.001, "OPTIM.WEIGHT_DECAY": 0.01, "OPTIM.ADAM_EPS": 1e-4, "OPTIM.WARMUP_EPOCH": 0},
    ),
    "TextRefiner": (
        "TextRefiner", ("xjjxmu/TextRefiner", "."), "trainers.textrefiner",
        tree("COOP", COOP | {"CTX_INIT": "a photo of a"}) | tree("TF", {"MEMORY_SIZE": 25, "ALPHA": 0.2, "BALANCE": 10.0, "DISTILL": 5.0}),
    ),
    "TaskRes": ("TaskRes", ("geekyutao/TaskRes", "."), "trainers.taskres", tree("TaskRes", {"RESIDUAL_SCALE": 0.5, "ENHANCED_BASE": "none", "PREC": "fp32"})),
    "TCP": (
        "TCP", TCP_CODE, "trainers.tcp", tree("COOP", COOP | {"W": 1.0}) | tree("COCOOP", {"PREC": "fp32"}) | {"OPTIM.NAME": "adam", "OPTIM.ADAM_EPS": 1e-3},
    ),
    "ATPrompt": ("CoOp_ATP", ATPROMPT_CODE, "trainers.coop_atp", tree("COOP", COOP | {"N_CTX": 2}) | ATTRIBUTES),
    "ATPrompt deep": ("MaPLe_ATP", ATPROMPT_CODE, "trainers.maple_atp", tree("MAPLE", {"N_CTX": 2, "CTX_INIT": "", "PREC": "fp32", "PROMPT_DEPTH": 3}) | ATTRIBUTES),
    "DePT CoOp": ("ExtrasLinearProbeCoOp", DEPT_CODE, "trainers.elp_coop", DEPT | tree("COOP", COOP)),
    "DePT KgCoOp": ("ExtrasLinearProbeKgCoOp", DEPT_CODE, "trainers.elp_kgcoop", DEPT | tree("COOP", COOP | {"CTX_INIT": "a photo of a", "W": 2.0})),
    "DePT MaPLe": ("ExtrasLinearProbeMaPLe", DEPT_CODE, "trainers.elp_maple", DEPT | tree("MAPLE", {"N_CTX": 2, "CTX_INIT": "a photo of a", "PREC": "fp32", "PROMPT_DEPTH": 3})),
    "MMA": (
        "MultiModalAdapter", ("ZjjConan/VLM-MultiModalAdapter", "."), "trainers.mmadapter",
        tree("MMADAPTER", MMA | {"TEXT_CTX_INIT": "a photo of a"}),
    ),
    "MMRL": ("MMRL", MMRL_CODE, "trainers.mmrl", tree("MMRL", MMRL) | {"TASK": "FS"}),
    "MMRL new": ("MMRL", MMRL_CODE, "trainers.mmrl", tree("MMRL", MMRL) | {"TASK": "B2N"}),  # other classes than those learned
    "MMRLpp": (
        "MMRLpp", MMRL_CODE, "trainers.mmrlpp",
        tree("MMRLpp", MMRL | {"BETA": 0.6, "PROJ_LORA_DIM": 6, "RES_LORA_DIM": 3}) | {"TASK": "FS"},
    ),
    "CLAP": ("ADAPTER", ("jusiro/CLAP", "."), "trainers.adapters", tree("ADAPTER", {"INIT": "ZS", "CONSTRAINT": "l2", "ENHANCED_BASE": "none", "PREC": "fp32"})),
    "CLAP none": ("ADAPTER", ("jusiro/CLAP", "."), "trainers.adapters", tree("ADAPTER", {"INIT": "ZS", "CONSTRAINT": "none", "ENHANCED_BASE": "none", "PREC": "fp32"})),
    "ProGrad": (
        "ProGrad", ("BeierZhu/Prompt-align", "ProGrad.public"), "trainers.prograd",
        tree("COOP", COOP | {"CTX_INIT": True, "N_CTX": 6}) | {"LOSS.NAME": "prograd", "LOSS.T": 1.0, "LOSS.LAMBDA": 1.0, "LOSS.GM": False},
    ),
}  # fmt: skip

TEXT_LAYERS = {"TCP": 9}  # its authors' file has the block in it, the ninth
# Methods whose authors build CLIP more than once, or draw what is learned while they do: what builds it on their side. On
# both sides the run's random numbers begin where the first CLIP is built, and no other takes any.
BUILDERS = {
    "TCP": ("trainers.clip_text.clip", "build_model"),
    "MMRL": ("clip.clip", "build_model_MMRL"),
    "MMRLpp": ("clip.clip", "build_model_MMRLpp"),
}
# What they draw while they build CLIP is drawn again at last, where ours is.
DRAWN_LAST = {
    "MMRL": lambda encoder: encoder.proj_rep.data.normal_().mul_(VISION**-0.5),
    "MMRLpp": lambda encoder: torch.nn.init.kaiming_uniform_(encoder.A, a=5**0.5),
}


# --- the setting ---------------------------------------------------------------------------------------------------


def shapes(text_layers: int = LAYERS) -> dict[str, tuple[int, ...]]:
    """The tensors of a small CLIP, in the names of OpenAI's checkpoints."""
    named = {
        "visual.class_embedding": (VISION,),
        "visual.positional_embedding": ((SIZE // PATCH) ** 2 + 1, VISION),
        "visual.proj": (VISION, JOINT),
        "visual.conv1.weight": (VISION, 3, PATCH, PATCH),
        "token_embedding.weight": (VOCABULARY, TEXT),
        "positional_embedding": (CONTEXT, TEXT),
        "text_projection": (TEXT, JOINT),
    }
    norms = {"visual.ln_pre": VISION, "visual.ln_post": VISION, "ln_final": TEXT}
    for tower, width, layers in (("visual.transformer", VISION, LAYERS), ("transformer", TEXT, text_layers)):
        for i in range(layers):
            block = f"{tower}.resblocks.{i}"
            norms |= {f"{block}.ln_1": width, f"{block}.ln_2": width}
            named |= {f"{block}.attn.in_proj_weight": (3 * width, width), f"{block}.attn.in_proj_bias": (3 * width,)}
            for layer, out, into in (("attn.out_proj", 1, 1), ("mlp.c_fc", 4, 1), ("mlp.c_proj", 1, 4)):
                named[f"{block}.{layer}.weight"] = (out * width, into * width)
                named[f"{block}.{layer}.bias"] = (out * width,)
    for name, width in norms.items():
        named |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    return named


def write_checkpoint(path: Path, text_layers: int = LAYERS) -> Path:
    """Random weights at which no norm or bias is trivial. They are numbers of fp16, so that rounding to it is exact."""
    chance = torch.Generator().manual_seed(0)
    state = {"logit_scale": torch.tensor(100.0).log()}
    for name, shape in shapes(text_layers).items():
        value = torch.randn(shape, generator=chance)
        if len(shape) == 1 and "embedding" not in name:
            value = 0.1 * value + (1 if "ln_" in name and name.endswith("weight") else 0)
        else:
            fan_in = value[0].numel() if name.endswith("weight") and "token" not in name else shape[-1]
            value *= fan_in**-0.5
        state[name] = value
    torch.save({name: value.to(torch.float16) for name, value in state.items()}, path)
    return path


def write_images(root: Path) -> None:
    """A `caltech-101` of noise, each class around a colour of its own."""
    images = root / "caltech-101" / "101_ObjectCategories"
    rng = np.random.default_rng(0)
    split = {part: [] for part in ("train", "val", "test")}
    for label, name in enumerate(CLASSES):
        (images / name).mkdir(parents=True)
        colour = rng.integers(0, 128, 3)
        for index in range(8):
            part = ("train", "train", "train", "train", "val", "val", "test", "test")[index]
            pixels = colour + rng.integers(0, 128, (SIZE, SIZE, 3))
            path = f"{name}/{index}.png"
            Image.fromarray(pixels.astype(np.uint8)).save(images / path)
            split[part].append([path, label, name])
    (root / "caltech-101" / "split_zhou_Caltech101.json").write_text(json.dumps(split))


def put(cfg, key: str, value) -> None:
    """Set a config key by its full name, whether or not it is there."""
    *nodes, last = key.split(".")
    for node in nodes:
        if node not in cfg:
            cfg[node] = CfgNode()
        cfg = cfg[node]
    cfg[last] = value


class Batches:
    """Every epoch's batches, chosen beforehand: the same ones in the same order for both sides."""

    def __init__(self, loader):
        self.dataset, self.epoch = loader.dataset, 0

    def __len__(self):
        return len(self.dataset) // BATCH

    def __iter__(self):
        order = np.random.default_rng(self.epoch).permutation(len(self.dataset))
        self.epoch += 1
        for i in range(len(self)):
            yield default_collate([self.dataset[int(j)] for j in order[i * BATCH : (i + 1) * BATCH]])


# --- one run -------------------------------------------------------------------------------------------------------


def figures(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor's products with fixed random directions: where these agree, norm-wise, so do the tensors."""
    directions = torch.randn(FIGURES, tensor.numel(), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return directions @ tensor.detach().flatten().double() / FIGURES**0.5


def learned(trainer) -> dict[str, torch.Tensor]:
    return {
        name: parameter.detach().clone()
        for model in trainer.get_model_names()
        for name, parameter in trainer._models[model].named_parameters()
        if parameter.requires_grad
    }


def run(trainer) -> dict:
    """Train, and give logits before and after, the loss of each step, and figures of what was learned."""
    trainer.train_loader_x = Batches(trainer.train_loader_x)
    losses, outputs = [], []

    def logits():
        outputs.clear()
        if hasattr(trainer.model, "text_features_for_inference"):  # theirs keep those of the first test
            trainer.model.text_features_for_inference = None
        trainer.test(split="test")
        return torch.cat(outputs).double()  # (10, n)

    def step(batch, forward_backward=trainer.forward_backward):
        summary = forward_backward(batch)
        loss = summary["loss"] if "loss" in summary else summary["xe_loss"]  # ProGrad has two, this one first
        losses.append(float(loss))
        return summary

    getattr(trainer, "fill", lambda: None)()  # of what begins with something computed of the shots
    trainer.evaluator.process = lambda output, labels: outputs.append(output)
    trainer.evaluator.evaluate = lambda: {"accuracy": 0.0}

    trainer.forward_backward = step
    trainer.save_model = lambda *arguments, **keywords: None
    trainer.write_scalar = lambda *arguments, **keywords: None
    result, first = {"logits before": logits()}, learned(trainer)
    for trainer.epoch in range(EPOCHS if first else 0):
        trainer.before_epoch()
        trainer.run_epoch()
        trainer.after_epoch()
    last = learned(trainer)
    return result | {
        "losses": torch.tensor(losses, dtype=torch.float64),
        "logits after": logits(),
        "learned": {
            name: {
                "shape": list(first[name].shape),
                "first": figures(first[name]),
                "change": figures(last[name] - first[name]),
            }
            for name in first
        },
    }


def config_of(name: str, keys: dict, root: Path, install=None) -> CfgNode:
    """The setting, with a trainer's own config keys."""
    cfg = get_cfg_default()
    if install is not None:
        install(cfg)
    for key, value in {**COMMON, **keys, "DATASET.ROOT": str(root), "TRAINER.NAME": name}.items():
        put(cfg, key, value)
    return cfg


def build(name: str, keys: dict, root: Path, checkpoint: Path, install=None):
    """A trainer by its registered name, in the setting."""
    cfg = config_of(name, keys, root, install)
    place, builder = BUILDERS.get(name, ("clip.clip", "")) if install is None else ("clip", "build_model")
    their_clip, apart = importlib.import_module(place), name in BUILDERS
    set_random_seed(cfg.SEED)
    with contextlib.ExitStack() as patches:
        second = sys.modules.get("clip_maple.clip")  # DePT's
        for module in {their_clip, importlib.import_module("clip.clip"), second}:
            if hasattr(module, "_download"):
                patches.enter_context(mock.patch.object(module, "_download", lambda *_: str(checkpoint)))
        if apart:
            once = begins_at_first(getattr(their_clip, builder), cfg.SEED)
            patches.enter_context(mock.patch.object(their_clip, builder, once))
        trainer = build_trainer(cfg)
    if install is None and name in DRAWN_LAST:
        DRAWN_LAST[name](trainer.model.image_encoder)
    return trainer


def begins_at_first(build_clip, seed: int):
    """The same builder, which takes no random numbers, and after its first call they begin at the seed."""
    first = itertools.count()

    def build_once(*arguments, **keywords):
        with torch.random.fork_rng(devices=[]):
            built = build_clip(*arguments, **keywords)
        if next(first) == 0:
            torch.manual_seed(seed)
        return built

    return build_once


# --- the published side --------------------------------------------------------------------------------------------


def borrow_prograd_update(repository: Path) -> None:
    """ProGrad's projection stands in its authors' copy of Dassl; that one method is what is taken from there."""
    path = next(repository.glob("Dassl*/dassl/engine/trainer.py"))
    spec = importlib.util.spec_from_file_location("their_engine", path)
    engine = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(engine)
    TRAINER_REGISTRY.get("ProGrad").prograd_backward_and_update = engine.TrainerBase.prograd_backward_and_update


def write_spaces(module) -> None:
    """For underscores of class names in prompts, as CoOp does, where published code takes the names as they are."""
    original = module._get_base_text_features
    module._get_base_text_features = lambda cfg, names, *rest: original(
        cfg, [x.replace("_", " ") for x in names], *rest
    )


def fit_clip_adapter() -> None:
    """CLIP-Adapter's file has the width of an RN50's features, and moves its prompts to a GPU by name."""
    adapter, to = sys.modules["clip_adapter"].Adapter, torch.Tensor.to
    init = adapter.__init__
    adapter.__init__ = lambda self, _, reduction: init(self, JOINT, reduction)
    torch.Tensor.to = lambda self, *where, **more: self if where == ("cuda",) else to(self, *where, **more)


def lend_templates(repository: Path) -> None:
    """CLAP's prompts of ImageNet stand in its authors' `datasets`; the data sets here are ours."""
    path = repository / "datasets/imagenet_templates.py"
    if path.is_file():
        spec = importlib.util.spec_from_file_location("datasets.imagenet_templates", path)
        sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[spec.name])


def feed_features(method) -> None:
    """CLAP's trainer extracts features before it trains, and shuffles them: here each batch's images are encoded."""
    learns = method.forward_backward
    method.forward_backward = lambda self, pair: learns(self, *pair)

    def encoded(self, items):
        images, labels = self.parse_batch_test(default_collate(items) if isinstance(items, list) else items)
        return self.model.image_encoder(images).detach(), labels

    def run_epoch(self):
        self.set_model_mode("eval")
        self.num_batches, adapter = len(self.train_loader_x), self.model.adapter
        if self.epoch == 0 and adapter.apply_constraint != "none":
            adapter.device = self.device
            f, labels = encoded(self, [*self.train_loader_x.dataset])
            adapter.init_lagrangian_multipliers(labels, self.model.forward_features(f))
        for number, batch in enumerate(self.train_loader_x):
            self.batch_idx, (f, labels) = number, encoded(self, batch)
            self.features_test, self.labels_test = f, labels  # which it looks at in each step
            self.forward_backward((f.numpy(), labels))

    method.run_epoch = run_epoch


def plain(value):
    if torch.is_tensor(value):
        return [plain(row) for row in value] if value.dim() > 1 else [float(f"{x:.7g}") for x in value]
    return {key: plain(inner) for key, inner in value.items()} if isinstance(value, dict) else value


def write_record(case: str, entry: dict) -> None:
    record = json.loads(RECORD.read_text()) if RECORD.is_file() else {}
    record[case] = entry
    lines = []
    for name in sorted(record, key=list(CASES).index):
        inner = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in record[name].items())
        lines.append(f" {json.dumps(name)}: {{\n{inner}\n }}")
    RECORD.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repository", type=Path, required=True, help="folder of the authors' repository")
    parser.add_argument("--method", required=True, help=f"one of: {', '.join(CASES)}")
    parser.add_argument("--commit", help="its commit, if the folder is no git checkout")
    arguments = parser.parse_args()
    trainer_name, (repository, folder), module, keys = CASES[arguments.method]
    commit = (
        arguments.commit
        or subprocess.run(
            ["git", "-C", arguments.repository, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
    )

    torch.set_num_threads(1)
    sys.path.insert(0, str((arguments.repository / folder).resolve()))  # from here on `clip` and `trainers` are theirs
    for kind in (torch.Tensor, torch.nn.Module):
        kind.cuda = kind.half = lambda self, *_, **__: self
    sys.modules.setdefault("plotnine", ModuleType("plotnine"))  # DePT imports it, and draws nothing
    # Their `clip` takes `packaging` from setuptools, of which there is no such part any more.
    importlib.import_module("packaging.version")
    sys.modules.setdefault("pkg_resources", SimpleNamespace(packaging=sys.modules["packaging"]))
    lend_templates(arguments.repository)
    if not trainer_name:
        import_without_their_data_sets()
    imported = importlib.import_module(module)
    if trainer_name == "ADAPTER":
        feed_features(TRAINER_REGISTRY.get("ADAPTER"))
    if hasattr(imported, "_get_base_text_features"):
        write_spaces(imported)
    if trainer_name == "ProGrad":
        borrow_prograd_update(arguments.repository)
    if trainer_name == "CLIP_Adapter":
        fit_clip_adapter()
    with tempfile.TemporaryDirectory() as scratch:
        write_images(Path(scratch))
        checkpoint = write_checkpoint(Path(scratch) / "clip.pt", TEXT_LAYERS.get(arguments.method, LAYERS))
        if trainer_name:
            result = run(build(trainer_name, keys, Path(scratch), checkpoint))
        else:
            result = RUNNERS[arguments.method](imported, Path(scratch), checkpoint)
    origin = {
        "repository": f"https://github.com/{repository}",
        "commit": commit,
        "command": f"python -m tests.published_code --repository FOLDER --method '{arguments.method}'",
        "torch": torch.__version__,
    }
    write_record(arguments.method, origin | plain(result))


if __name__ == "__main__":
    main()
