"""Train or test one method on one data set: arguments -> config -> seed and log -> train or test.

It knows no method and no data set by name: the packages `trainers` and `datasets` find their modules, and a
method or a data set brings its own config keys. What a run is stands in `one_run/`.

    python train.py --root data --seed 1 --trainer CoOp \\
        --dataset-config-file configs/datasets/embedded_species.yaml \\
        --config-file configs/trainers/CoOp/embedded.yaml \\
        --output-dir output/try DATASET.NUM_SHOTS 16 DATASET.SUBSAMPLE_CLASSES base
"""

import argparse
import sys

from one_run.command import carry_out


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """CoOp's command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", "--data", default="", help="data root: the folder that holds the data sets")
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
    parser.add_argument("--trainer", default="", help="the method, as it is registered")
    parser.add_argument("--protocol", default="", help="whose settings: base2new (default), fewshot, xd")
    parser.add_argument("--backbone", default="", help="the CLIP: a name such as ViT-B/16, or a checkpoint file")
    parser.add_argument("--head", default="", help="name of a head, for trainers that use one")
    parser.add_argument("--eval-only", action="store_true", help="test a trained model, train nothing")
    parser.add_argument("--model-dir", default="", help="folder of the trained run, for --eval-only")
    parser.add_argument("--load-epoch", type=int, help="which of its epochs to load (default: the last one)")
    parser.add_argument("--no-train", action="store_true", help="build everything, then stop")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="config keys and values: KEY VALUE ...")
    return parser.parse_args(argv)


def build_config(args: argparse.Namespace):
    """The config that the arguments ask for."""
    from one_run import config

    return config.build_config(
        args.trainer,
        files=(args.dataset_config_file, args.config_file),
        options=args.opts,
        root=args.root,
        output_dir=args.output_dir,
        resume=args.resume,
        seed=args.seed if args.seed >= 0 else None,
        source_domains=args.source_domains,
        target_domains=args.target_domains,
        transforms=args.transforms,
        backbone=args.backbone,
        protocol=args.protocol,
        head=args.head,
    )


def run(args: argparse.Namespace) -> None:
    from one_run import work  # PyTorch and all methods are imported only now, after the arguments were understood

    work.do(
        build_config(args),
        model_dir=args.model_dir,
        epoch=args.load_epoch,
        test=args.eval_only,
        train=not args.no_train,
    )


def main(argv: list[str] | None = None) -> int:
    return carry_out(lambda: run(parse_arguments(argv)), interrupted="nothing was begun")


if __name__ == "__main__":
    sys.exit(main())
