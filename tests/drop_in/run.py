"""In a copy of this code, a process of its own: each trainer of one file is trained, saved, loaded and tested."""

import contextlib
import inspect
import json
import shutil
import sys
import tempfile
import textwrap
import traceback
from pathlib import Path

SAID = "drop-in result: "  # begins the line in which a run says how it ended
OF_BASE_CLASSES = (  # which train or test on halves of the classes alone
    *("DePT", "DePT_ATP", "DePT_AnchorOPT", "CoOp_AnchorOPT", "CoCoOp_AnchorOPT", "MaPLe_AnchorOPT"),
    *(f"ExtrasLinearProbe{host}" for host in ("CoOp", "CoOpStats", "CoCoOp", "KgCoOp", "MaPLe")),
)
SMALL = {  # registered name -> what it needs on a CLIP of three blocks and five classes
    "CoPrompt": {"DATALOADER.K_TRANSFORMS": 2},
    "LoCoOp": {"topk": 2},
    "MMRL": {"TRAINER.MMRL.REP_LAYERS": [2, 3]},
    "MMRLpp": {"TRAINER.MMRLpp.REP_LAYERS": [2, 3]},
    "MultiModalAdapter": {"TRAINER.MMADAPTER.ADAPTER_START": 2, "TRAINER.MMADAPTER.ADAPTER_END": 3},
    **{name: {"DATASET.SUBSAMPLE_CLASSES": "base"} for name in OF_BASE_CLASSES},
    "DPT": {"TRAINER.TOPDOWN_SECOVPT.BOTTOMLIMIT": 3},
    "MaPLe_ATP": {  # which goes by what it is where there are attributes
        "TRAINER.ATPROMPT.ATT_NUM": 2,
        "TRAINER.ATPROMPT.ATT1_TEXT": "color",
        "TRAINER.ATPROMPT.ATT2_TEXT": "shape",
    },
    "VPT": {
        "DATALOADER.TRAIN_X.BATCH_SIZE": 1,
        "DATALOADER.TEST.BATCH_SIZE": 1,
    },  # one of that name takes an image at a time
    "CoOp_sub": {"TRAINER.U": "{scratch}/U.pt"},  # a file of its authors' that holds directions
}


def run(asked: dict) -> None:
    try:
        error = error_of(asked)
    except (Exception, SystemExit) as failed:
        where = traceback.extract_tb(failed.__traceback__)[-1]
        text = " ".join(str(failed).split()) or f"in {Path(where.filename).name}: {where.line}"
        error = f"{type(failed).__name__}: {text}"
    print(f"\n{SAID}{json.dumps(error)}")


def error_of(asked: dict) -> str:
    import torch

    if not torch.cuda.is_available():
        pretend_cuda()
    import trainers as trainers  # registers
    from dassl.engine import TRAINER_REGISTRY
    from tests import published_code
    from trainers.shared.ours import files_of_users

    torch.set_num_threads(1)
    names = [
        name
        for name, stated in files_of_users(TRAINER_REGISTRY.registered_names()).items()
        if stated["file"] == f"trainers/{asked['stem']}.py" and is_whole(TRAINER_REGISTRY.get(name))
    ]
    if not names:
        return TRAINER_REGISTRY.left_out().strip() or "it registers nothing"
    with tempfile.TemporaryDirectory() as scratch:
        published_code.write_images(Path(scratch))
        checkpoint = published_code.write_checkpoint(Path(scratch) / "clip.pt")
        for loaded in list(sys.modules.values()):  # ours, and the clip that a file brings
            if hasattr(loaded, "_download") and hasattr(loaded, "_MODELS"):
                loaded._download = lambda *_, **__: str(checkpoint)
        for weights in ("ViT-B-16", "ViT-B-32", "ViT-L-14", "RN50"):  # as some read them from where they run
            if not (place := Path("clip", f"{weights}.pt")).exists():
                shutil.copyfile(checkpoint, place)
        for name in names:
            declare(name, asked["keys"], asked["flags"])
            train_save_and_test(name, asked["epochs"], Path(scratch))
    return ""


def is_whole(kind) -> bool:
    """Whether it can be trained as any train.py does it: a base of others may want arguments."""
    return len(inspect.signature(kind.train).parameters) == 1


def pretend_cuda() -> None:
    """Where "cuda" is asked for, the CPU computes; `.half()` does nothing there."""
    import torch
    from torch.overrides import TorchFunctionMode

    def here(value):
        is_cuda = isinstance(value, (str, torch.device)) and str(value).startswith("cuda")
        return torch.device("cpu") if is_cuda else value

    class OnTheCPU(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            return function(*map(here, args), **{key: here(value) for key, value in (kwargs or {}).items()})

    moved = torch.nn.Module.to
    torch.nn.Module.to = lambda self, *args, **keys: moved(
        self, *map(here, args), **{k: here(v) for k, v in keys.items()}
    )
    for kind in (torch.Tensor, torch.nn.Module):
        kind.cuda = kind.half = lambda self, *_, **__: self
    OnTheCPU().__enter__()


class Flags:
    """Those of the authors' command line, none of which is given; of one that `defaults` has not, None."""

    def __init__(self, defaults: dict):
        self.defaults = defaults

    def __getattr__(self, name: str):
        return self.defaults.get(name)


def declare(name: str, functions: list[str], flags: dict) -> None:
    """Write a method's defaults: those that are here, and what they lack of its authors' `extend_cfg`."""
    from yacs.config import CfgNode

    from dassl.config import get_cfg_default, overlaid, read_tree
    from dassl.engine import TRAINER_REGISTRY
    from one_run.config import CONFIGS, defaults_of

    if hasattr(TRAINER_REGISTRY.get(name), "extend_cfg") or not functions:
        return
    cfg, ours = get_cfg_default(), get_cfg_default()
    cfg.DATASET.NUM_SHOTS, scope = 2, {"CN": CfgNode, "CfgNode": CfgNode, "args": Flags(flags)}
    for function in functions:
        exec(textwrap.dedent(function), scope)  # of the checkout that the user has named
        scope["extend_cfg"](cfg)
    tree = added(cfg, ours) | {"TRAINER": plain(cfg.TRAINER), "OPTIM": plain(cfg.OPTIM)}
    if defaults_of(name).is_file():
        tree = overlaid(tree, read_tree(str(defaults_of(name))))
    path = CONFIGS / "trainers" / name / "defaults.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(CfgNode(tree).dump())


def added(cfg, ours) -> dict:
    """The keys of a config that another one lacks, at any depth."""
    found = {key: plain(value) for key, value in cfg.items() if key not in ours}
    nodes = [key for key, value in ours.items() if isinstance(value, dict) and isinstance(cfg.get(key), dict)]
    return found | {key: more for key in nodes if (more := added(cfg[key], ours[key]))}


def plain(node):
    return {key: plain(value) for key, value in node.items()} if isinstance(node, dict) else node


def train_save_and_test(name: str, epochs: int, scratch: Path) -> None:
    import torch

    from dassl.checkpoints import models_in
    from one_run import work
    from one_run.config import build_config, options_of
    from one_run.folder import read_record
    from tests.published_code import COMMON, TEXT

    keys = {key: value for key, value in COMMON.items() if key != "TEST.NO_TEST"}
    keys |= {"DATASET.ROOT": str(scratch), "OPTIM.MAX_EPOCH": epochs}
    torch.save(torch.eye(2, 16 * TEXT), scratch / "U.pt")
    for key, value in SMALL.get(name, {}).items():
        keys[key] = value.format(scratch=scratch) if isinstance(value, str) else value

    def config(output: Path, **more):
        return build_config(name, options=options_of(keys | {"OUTPUT_DIR": str(output)} | more))

    nodes = config(scratch).TRAINER.items()
    keys |= {f"TRAINER.{node}.PREC": "fp32" for node, own in nodes if isinstance(own, dict) and "PREC" in own}
    trained, tested = scratch / name / "trained", scratch / name / "tested"
    with contextlib.suppress(SystemExit):  # of a trainer that ends the process after its test; the record is looked at
        work.do(config(trained))
    learns = bool(models_in(trained))
    with contextlib.suppress(SystemExit):
        work.do(config(tested), model_dir=str(trained) if learns else "", test=True)
    for folder in (trained, tested):
        record = read_record(folder)
        if record["state"] != "finished":
            raise RuntimeError(f"the run in {folder.name} is {record['state']} ({record.get('why')})")


if __name__ == "__main__":
    run(json.loads(sys.argv[1]))
