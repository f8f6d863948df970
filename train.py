"""Train or test one method on one data set: arguments -> config -> seed and log -> train or test.

It knows no method and no data set by name: the packages `trainers` and `datasets` find their modules, and a
method or a data set brings its own config keys.

    python train.py --root data --seed 1 --trainer CoOp \\
        --dataset-config-file configs/datasets/embedded_species.yaml \\
        --config-file configs/trainers/CoOp/embedded.yaml \\
        --output-dir output/try DATASET.NUM_SHOTS 16 DATASET.SUBSAMPLE_CLASSES base
"""

import argparse
import contextlib
import os
import sys
from pathlib import Path

import torch

import datasets as datasets  # importing registers the data sets
import trainers
from dassl.config import get_cfg_default, merge_file, merge_options, read_tree
from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY, build_trainer
from dassl.engine.record import RunRecord, read_record, sha256_of_file
from dassl.utils import InputError, check_availability, collect_env_info, set_random_seed, setup_logger

ROOT = Path(__file__).resolve().parent


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """CoOp's command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", default="", help="folder that holds the data sets")
    parser.add_argument("--output-dir", default="", help="folder this run writes to")
    parser.add_argument(
        "--resume", default="", help="folder of a run that broke off, to go on from its last checkpoint"
    )
    parser.add_argument("--seed", type=int, default=-1, help="seed; negative means not fixed")
    parser.add_argument("--source-domains", nargs="+", help="source domains for domain adaptation or generalisation")
    parser.add_argument("--target-domains", nargs="+", help="target domains for domain adaptation or generalisation")
    parser.add_argument("--transforms", nargs="+", help="training transforms, in place of the config's")
    parser.add_argument("--config-file", default="", help="the method's config")
    parser.add_argument("--dataset-config-file", default="", help="the data set's config")
    parser.add_argument("--trainer", default="", help="the method")
    parser.add_argument("--backbone", default="", help="the CLIP: a name such as ViT-B/16, or a checkpoint file")
    parser.add_argument("--head", default="", help="name of a head, for trainers that use one")
    parser.add_argument("--eval-only", action="store_true", help="test a trained model, train nothing")
    parser.add_argument("--model-dir", default="", help="folder of the trained run, for --eval-only")
    parser.add_argument("--load-epoch", type=int, help="which of its epochs to load (default: the last one)")
    parser.add_argument("--no-train", action="store_true", help="build everything, then stop")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="config keys and values: KEY VALUE ...")
    return parser.parse_args(argv)


def build_config(args: argparse.Namespace):
    """Defaults, the method's own keys, then: data set's file, method's file, arguments, options."""
    cfg = get_cfg_default()
    name = args.trainer or wanted(args, "TRAINER.NAME")
    if not name:
        raise InputError(
            f"No method is named: pass --trainer, one of {', '.join(TRAINER_REGISTRY.registered_names())}."
        )
    install_keys(cfg, name, args)
    install_data_keys(cfg, wanted(args, "DATASET.NAME"))

    for path in (args.dataset_config_file, args.config_file):
        if path:
            merge_file(cfg, path)
    given = {
        "DATASET.ROOT": args.root,
        "OUTPUT_DIR": args.output_dir,
        "RESUME": args.resume,
        "SEED": args.seed if args.seed >= 0 else None,
        "DATASET.SOURCE_DOMAINS": args.source_domains,
        "DATASET.TARGET_DOMAINS": args.target_domains,
        "INPUT.TRANSFORMS": args.transforms,
        "TRAINER.NAME": name,
        "MODEL.BACKBONE.NAME": args.backbone,
        "MODEL.HEAD.NAME": args.head,
    }
    merge_options(cfg, [part for key, value in given.items() if value not in ("", None) for part in (key, value)])
    merge_options(cfg, args.opts)
    cfg.freeze()
    return cfg


@contextlib.contextmanager
def explain_undeclared_keys(name: str):
    """A trainer file written for Dassl declares no keys: say where their defaults belong."""
    try:
        yield
    except (InputError, AttributeError) as error:
        if not name or name not in TRAINER_REGISTRY.registered_names() or declares_keys(name):
            raise
        raise InputError(
            f"{error} (The trainer {name} declares no config keys itself: put their defaults into "
            f"configs/trainers/{name}/defaults.yaml.)"
        ) from error


def declares_keys(name: str) -> bool:
    return hasattr(TRAINER_REGISTRY.get(name), "extend_cfg") or defaults_of(name).is_file()


def defaults_of(name: str) -> Path:
    return ROOT / "configs" / "trainers" / name / "defaults.yaml"


def install_keys(cfg, name: str, args: argparse.Namespace) -> None:
    """A method installs its own config keys, and those of the host it stands on.

    A trainer file written for Dassl declares none; its defaults stand beside its configs, in `defaults.yaml`.
    """
    method = TRAINER_REGISTRY.get(name)
    if hasattr(method, "extend_cfg"):
        method.extend_cfg(cfg)
    elif defaults_of(name).is_file():
        merge_file(cfg, str(defaults_of(name)), new_allowed=True)
    if hasattr(method, "host_key"):
        host = wanted(args, method.host_key) or value_of(cfg, method.host_key)
        if host == name:
            raise InputError(f"{method.host_key} cannot be {name} itself: name the method it is to stand on.")
        check_availability(host, TRAINER_REGISTRY.registered_names(), method.host_key)
        install_keys(cfg, host, args)


def install_data_keys(cfg, name: str | None) -> None:
    """A data set may have config keys of its own too; whether there is one of that name is looked at later."""
    if name in DATASET_REGISTRY.registered_names() and hasattr(DATASET_REGISTRY.get(name), "extend_cfg"):
        DATASET_REGISTRY.get(name).extend_cfg(cfg)


def wanted(args: argparse.Namespace, key: str):
    """The value that the options, or else a config file, give a key before the config is put together."""
    options = dict(zip(args.opts[::2], args.opts[1::2], strict=False))
    if key in options:
        return options[key]
    for path in filter(os.path.isfile, (args.config_file, args.dataset_config_file)):  # the last that is merged first
        with contextlib.suppress(InputError):  # merge_file says what is wrong
            value = value_of(read_tree(path), key)
            if value is not None:
                return value
    return None


def value_of(tree, key: str):
    for part in key.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def weights_to_test(args: argparse.Namespace, cfg) -> dict | None:
    """Which checkpoint an evaluation loads: folder, epoch (None: best on validation images) and its hash."""
    if not (args.eval_only and args.model_dir):
        return None
    directory = Path(args.model_dir)
    if not directory.is_dir():
        raise InputError(f"--model-dir {directory} does not exist: train first, or correct the path.")
    former = read_record(args.model_dir)
    if former is not None:
        if former["state"] != "finished" and args.load_epoch is None:
            raise InputError(
                f"The training run in {directory} has not finished (its state is {former['state']!r}): run it again, "
                "or name one of its checkpoints with --load-epoch."
            )
        for field, here in (("method", cfg.TRAINER.NAME), ("backbone", cfg.MODEL.BACKBONE.NAME)):
            if former[field] != here:
                raise InputError(
                    f"{directory} was trained with {field} {former[field]}, and this test asks for {here}: "
                    f"choose the matching --model-dir or {field}."
                )
    epoch = args.load_epoch
    if epoch is None and cfg.TEST.FINAL_MODEL == "last_step":
        epoch = last_epoch(directory)
    file = "model-best.pth.tar" if epoch is None else f"model.pth.tar-{epoch}"
    found = sorted(directory.glob(f"*/{file}"))
    return {"model_dir": str(directory), "epoch": epoch, "sha256": [sha256_of_file(str(path)) for path in found]}


def last_epoch(directory: Path) -> int | None:
    """The epoch of the checkpoint that was written last; None where there is none, as in a zero-shot run."""
    for pointer in sorted(directory.glob("*/checkpoint")):
        suffix = pointer.read_text().strip().rpartition("-")[2]
        if suffix.isdigit():
            return int(suffix)
    return None


def check_precision(cfg) -> None:
    """fp16 on a CPU is refused for trainer files of other code bases too, which do not look themselves."""
    if torch.cuda.is_available() and cfg.USE_CUDA:
        return
    for node, keys in cfg.TRAINER.items():
        if isinstance(keys, dict) and keys.get("PREC") in ("fp16", "amp"):
            raise InputError(
                f"TRAINER.{node}.PREC is {keys['PREC']}, which needs a GPU, and this run is on the CPU: "
                f"add TRAINER.{node}.PREC fp32."
            )


def run(args: argparse.Namespace) -> None:
    with explain_undeclared_keys(args.trainer):
        cfg = build_config(args)
    check_precision(cfg)
    if args.eval_only and args.model_dir and os.path.realpath(args.model_dir) == os.path.realpath(cfg.OUTPUT_DIR):
        raise InputError(
            f"--output-dir {cfg.OUTPUT_DIR} is the training run itself: choose another folder for its test."
        )
    record = RunRecord(cfg, weights_to_test(args, cfg))
    former = record.already_finished()
    if former is not None:
        print(f"Skipped: {cfg.OUTPUT_DIR} holds this finished run (accuracy {former['accuracy']}).")
        return

    goes_on = not (args.eval_only or cfg.RESUME) and record.broke_off()
    if goes_on:
        cfg.defrost()
        cfg.RESUME = cfg.OUTPUT_DIR
        cfg.freeze()

    with record:
        setup_logger(cfg.OUTPUT_DIR)
        if goes_on:
            print(f"{cfg.OUTPUT_DIR} holds this run, which broke off: it goes on from its last checkpoint.")
        if cfg.SEED >= 0:
            print(f"Setting fixed seed: {cfg.SEED}")
            set_random_seed(cfg.SEED)
            torch.backends.cudnn.deterministic = True
        print(f"** Config **\n{cfg}\n** System **\n{collect_env_info()}\n")
        with explain_undeclared_keys(cfg.TRAINER.NAME):
            trainer = build_trainer(cfg)
        record.describe(trainer)
        if args.eval_only:
            if trainer.get_model_names() and not args.model_dir:
                raise InputError(f"--eval-only needs --model-dir: {cfg.TRAINER.NAME} has learned parameters to load.")
            epoch = record.content["weights"]["epoch"] if args.model_dir else None
            trainer.load_model(args.model_dir, epoch=epoch)
            trainer.test()
        elif args.no_train:
            record.stop("--no-train: everything was built, nothing was trained")
            return
        else:
            trainer.train()
            epoch = cfg.OPTIM.MAX_EPOCH if trainer.get_model_names() else 0
        record.finish(trainer, epoch or 0)
        print(f"Results: {os.path.join(cfg.OUTPUT_DIR, 'results.json')}")


def main(argv: list[str] | None = None) -> int:
    """Exit code 0; 2 for what the user can mend, in one sentence; 130 when interrupted. A fault of ours is a traceback."""
    try:
        run(parse_arguments(argv))
    except (InputError, trainers.InputError, FloatingPointError) as error:
        print(f"error: {sentence(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("error: interrupted; the same command goes on from the last checkpoint.", file=sys.stderr)
        return 130
    return 0


def sentence(error: Exception) -> str:
    """The error's own sentence; a loader's worker wraps it into a traceback, of which it is the last line."""
    return str(error).strip().splitlines()[-1].removeprefix("dassl.errors.InputError: ")


if __name__ == "__main__":
    sys.exit(main())
