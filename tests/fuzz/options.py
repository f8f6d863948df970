"""KEY VALUE on the command line: each key has the value that was given, or a sentence says why not."""

from random import Random

from dassl.config import get_cfg_default, merge_options
from dassl.ranges import RANGES, check_ranges, leaves
from one_run.config import build_config

from .configs import ODD, deep, same
from .harness import RIGHT, Kind, Wrong
from .mutate import spoilt_bytes

GOOD = (
    "0.002",
    "1e-3",
    "16",
    "True",
    "(224, 224)",
    "[0.1, 0.2, 0.3]",
    "('normalize',)",
    "sgd",
    "bicubic",
    "ViT-B/16",
    "base",
    "1",
)
WORSE = (
    "9**9**9**9", "10**10**10", "(" * 99 + ")" * 99, "[" * 60, "{" * 60, "({[" * 40, "[(" * 90 + "1", "1,", "1j", "-1j", "b'1'", "...", "{1, 2}", "{}",
    "{1: nan}", "{'a': 1e999}", "[1e999]", "(1e999, 1)", "f'{1}'", "'a' 'b'", "lambda: 0", "1if 1else 2", "not 1", "--1", "~1", "'" * 3, '"""', "\\",
    "1e400j", "[[1, 2], [3]]", "((1,), (2,))", "[None]", "None", "[{}]", "[[]]", "{[]: []}", "{{}: 1}", "[set()]", "1 +", "1 + 1j", "1 - 1e999j",
    "\u0661\u0662", "\uff11", "1\u00a0", " 1", "1\n2", "1;2", "#", "x" * 200_000, "[" + "1," * 100_000 + "]", "-" * 100_000 + "1", "1+" * 5000 + "1",
)  # fmt: skip
WORDS = (
    "OPTIM",
    "OPTIM.",
    ".LR",
    "OPTIM..LR",
    "optim.lr",
    "",
    ".",
    "SEED.x",
    "\ud800",
    "a\nb",
    "x" * 100_000,
    "TRAINER.COOP.X",
    "_BASE_",
    "__class__",
)


class Options(Kind):
    name, inputs = "options", 1000

    def __init__(self, folder):
        super().__init__(folder)
        self.keys = [key for key, _ in leaves(get_cfg_default())]
        self.methods = {
            name: self.keys_of(name) for name in ("CoOp", "Spotlighter", "PromptSRC", "PromptKD", "TextRefiner")
        }

    def one(self, chance: Random) -> str:
        pairs = [part for _ in range(chance.choice((1, 1, 2))) for part in (self.key(chance), self.value(chance))]
        if chance.random() < 0.05:
            pairs.append(self.key(chance))
        if chance.random() < 0.25:
            method = chance.choice(list(self.methods))
            pairs = [*pairs, chance.choice(self.methods[method]), self.value(chance), "DATASET.NAME", "Caltech101"]
            cfg = build_config(method, options=pairs)
        else:
            cfg = get_cfg_default()
            merge_options(cfg, pairs)
            check_ranges(cfg, RANGES)
        values = dict(leaves(cfg))
        for key, value in dict(zip(pairs[::2], pairs[1::2], strict=True)).items():
            if not same(value, values[key]):
                raise Wrong(f"{key} is {values[key]!r}, and {value!r} was given"[:400])
        return RIGHT

    def keys_of(self, method: str) -> list[str]:
        """Its own."""
        cfg = build_config(method, options=["DATASET.NAME", "Caltech101"])
        return [key for key, _ in leaves(cfg) if key.startswith("TRAINER.")]

    def key(self, chance: Random) -> str:
        return chance.choice(WORDS) if chance.random() < 0.08 else chance.choice(self.keys)

    def value(self, chance: Random) -> str:
        what = chance.random()
        if what < 0.15:
            return spoilt_bytes(chance, chance.choice(GOOD).encode(), 2).decode("utf-8", "surrogateescape")
        if what < 0.25:
            return deep(chance)
        return chance.choice(GOOD if what < 0.4 else ODD if what < 0.7 else WORSE)
