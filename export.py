"""Write what a run has learned as files that classify pictures without this code: ONNX, ONNX in 8 bits, PyTorch's .pt2.

    python export.py RUN --out classifier --onnx --int8
    python classifier/use_me.py cat.jpg dog.jpg

RUN is the folder of a finished training run. The texts of the classes are baked in, so that only the image encoder, and what
stands behind it, is in the files. Afterwards they are read again and compared with the run on its test pictures: accuracy, the
largest difference of a probability, and images per second, which are printed and kept in `comparison.json`. The folder also holds
`labels.json`, `preprocess.json`, the run's record as `run.json`, and `use_me.py`, which needs onnxruntime, numpy and pillow alone.

Exit code: 0 done, 1 a file in fp32 differs from the run by more than 1e-4, 2 what you can mend, 130 stopped.
"""

import argparse
import sys
from pathlib import Path

from dassl.errors import InputError
from one_run.command import carry_out

DIFFERS = 1


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="folder of a finished training run")
    add("--out", type=Path, required=True, metavar="FOLDER", help="a new folder")
    add("--onnx", dest="files", action="append_const", const="model.onnx", help="the default")
    add(
        "--int8",
        dest="files",
        action="append_const",
        const="model_int8.onnx",
        help="ONNX with weights of 8 bits, beside fp32",
    )
    add("--pt2", dest="files", action="append_const", const="model.pt2", help="for torch.export.load")
    add("--classes", default="", help="as for predict.py (default: those it was trained on)")
    add("--calibrated", action="store_true", help="with the temperature of predict.py --calibrated")
    add("--pictures", type=int, default=200, metavar="N", help="test pictures to compare on; 0: all (default: 200)")
    add("--no-comparison", action="store_true", help="where the run's data set is not here")
    add("--root", "--data", default="", help="data root (default: where the run found its data set)")
    add("--load-epoch", type=int, help="which of its epochs to load (default: the last one)")
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> int:
    if args.pictures < 0:
        raise InputError(f"--pictures is {args.pictures}: choose 0, which is all, or more.")
    from deploy.folder import export
    from one_run.classes import classes_of

    same = export(
        args.run,
        args.out,
        files=args.files or ["model.onnx"],
        classes=classes_of(args.classes),
        calibrated=args.calibrated,
        epoch=args.load_epoch,
        root=args.root,
        pictures=None if args.no_comparison else args.pictures,
    )
    print(f"Results: {args.out}")
    if not same:
        print("error: A file in fp32 differs from the run by more than 1e-4.", file=sys.stderr)
    return 0 if same else DIFFERS


def main(argv: list[str] | None = None) -> int:
    return carry_out(lambda: run(parse_arguments(argv)), interrupted="nothing is written")


if __name__ == "__main__":
    sys.exit(main())
