"""YAML configs, as a run reads them: each key has the value that its line states, or a sentence says why not."""

import math
import shutil
from ast import literal_eval
from random import Random

import yaml

from dassl.config import get_cfg_default, merge_file, read_tree
from dassl.ranges import RANGES, check_ranges, leaves
from one_run.config import build_config
from one_run.layout import CONFIGS

from .harness import REFUSED, RIGHT, Kind, Wrong
from .mutate import DEEP, perhaps_spoilt

OWN = """OPTIM:
  NAME: "sgd"
  LR: 0.002
  MAX_EPOCH: 50
  WARMUP_CONS_LR: 1e-5
  STEPSIZE: [10, 20]
INPUT:
  SIZE: (224, 224)
  INTERPOLATION: "bicubic"
  PIXEL_MEAN: [0.48, 0.45, 0.40]
  TRANSFORMS: ["random_resized_crop", "random_flip", "normalize"]
DATALOADER:
  TRAIN_X:
    BATCH_SIZE: 32
MODEL:
  BACKBONE:
    NAME: "ViT-B/16"
TRAIN:
  PRINT_FREQ: 5
"""
METHOD = """OPTIM:
  LR: 0.002
  MAX_EPOCH: 50
TRAINER:
  COOP:
    N_CTX: 16
    CTX_INIT: "a photo of a"
_SETTINGS_:
  - {protocol: fewshot, shots: [2, 4], OPTIM.MAX_EPOCH: 100}
  - {dataset: ImageNet, OPTIM.MAX_EPOCH: 50}
"""
ODD = (
    "nan", ".nan", ".inf", "-.inf", "1e999", "1e-999", "-1", "0", "1.5", "1e3", "007", "0o7", "0x1F", "1_000", "1:30", "0b_", "12:30:45",
    "true", "yes", "null", "~", "", "''", '""', "[]", "{}", "[1, [2, [3]]]", "{a: 1}", "(1, 2", "(1, 'a')", "(224, 224)", "2**3", "9**9**9",
    "2001-02-30", "2001-01-01", "2001-01-01 25:61:61", "!!int x", "!!float ''", "!!binary a", "!!python/object:os.system x", "!!set {a}",
    "!!timestamp x", "!foo bar", "*nowhere", "&a [*a]", "&a {b: *a}", "{<<: {LR: 1}}", "{? [1]: 2}", "{1: 2}", "[1, 2", "|", ">", "@", "%",
    "\t1", "'\\ud800'", '"\\ud800"', '"\\0"', '"a\\nb"', "1 # x", "sgd: 1", "- 1", "__import__('os')", "[]*9", "{[]: 1}", "-" * 3000 + "1",
    "1" * 400, "1" * 5000, "0x" + "f" * 5000, "1e" + "9" * 400, "a" * 100_000, "[" + "1, " * 20_000 + "]",
)  # fmt: skip


def deep(chance: Random) -> str:
    depth = chance.choice(DEEP)
    return chance.choice(
        (
            "[" * depth + "]" * depth,
            "{a: " * depth + "1" + "}" * depth,
            "(" * depth + ")" * depth,
            '"' + "[" * depth + "]" * depth + '"',
            "{" * depth,
            "\n" + "".join(f"{' ' * (4 + level)}a:\n" for level in range(min(depth, 2000))),
        )
    )


def bomb(chance: Random) -> str:
    """A few lines that say a billion things."""
    levels, wide = chance.choice((3, 9, 30)), chance.choice((2, 9))
    opened, closed = chance.choice(("[]", "{}"))
    lines = [f"{'a0'}: &a0 {opened}{'x: 1' if opened == '{' else '1'}{closed}"]
    for level in range(1, levels):
        inner = ", ".join(f"*a{level - 1}" if opened == "[" else f"k{n}: *a{level - 1}" for n in range(wide))
        if opened == "{" and chance.random() < 0.3:
            inner = f"<<: [{', '.join([f'*a{level - 1}'] * wide)}]"
        lines.append(f"a{level}: &a{level} {opened}{inner}{closed}")
    return (
        "\n".join(lines) + f"\n{chance.choice(('OPTIM', 'SEED', 'TRAINER', '_SETTINGS_', '_BASE_'))}: *a{levels - 1}\n"
    )


def spoilt(chance: Random, text: str) -> str:
    lines = text.splitlines()
    for _ in range(chance.choice((0, 1, 1, 1, 2, 3))):
        at, what = chance.randrange(len(lines)), chance.random()
        key = lines[at].partition(":")[0]
        if what < 0.55:
            lines[at] = f"{key}: {deep(chance) if chance.random() < 0.15 else chance.choice(ODD)}"
        elif what < 0.62:
            lines.insert(at, lines[at])
        elif what < 0.7:
            del lines[at]
        elif what < 0.77:
            lines[at] = chance.choice((" ", "    ", "\t")) + lines[at]
        elif what < 0.85:
            lines[at] = lines[at].replace(
                key.strip(), chance.choice(("OPTIM", "LRR", "1", "? x", "<<", "", "a" * 5000)), 1
            )
        elif what < 0.9:
            lines.insert(
                at, chance.choice(("---", "...", "%YAML 9.9", "_BASE_: x", "<<: {OPTIM: 1}", "\x00", "\ufeff"))
            )
        else:
            return bomb(chance) + "\n".join(lines) if chance.random() < 0.5 else "\n".join(lines) + "\n" + bomb(chance)
        lines = lines or [""]
    return "\n".join(lines) + "\n"


def evaluated(value):
    try:
        return literal_eval(value) if isinstance(value, str) else value
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return value


def same(stated, found) -> bool:
    """Whether the config has what the file states, of its own type: 1 for 1.0, a list for a tuple."""
    options = [stated, evaluated(stated)]
    if isinstance(found, list | tuple):
        return any(isinstance(one, list | tuple) and list(one) == list(found) for one in options)
    return any(one == found and isinstance(one, bool) == isinstance(found, bool) for one in options)


class Once(yaml.SafeLoader):
    """Refuses a key that stands twice: which of the two was meant?"""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if not key.tag.endswith(":merge")]
        if len(set(map(repr, keys))) < len(keys):
            raise Wrong(f"a key stands twice in {keys}, and one of them counts")
        return super().construct_mapping(node, deep)


Once.add_constructor("tag:yaml.org,2002:timestamp", yaml.SafeLoader.construct_yaml_str)  # a config knows no dates


def compare(cfg, text: bytes) -> str:
    """The config that came out beside what the file states."""
    for key, value in leaves(cfg):
        if isinstance(value, float) and not math.isfinite(value):
            raise Wrong(f"{key} is {value}")

    def walk(tree, node, prefix):
        for key, value in tree.items():
            if key in ("_SETTINGS_", "_BASE_"):
                continue
            if isinstance(value, dict):
                walk(value, node[key], f"{prefix}{key}.")
            elif not same(value, node[key]):
                raise Wrong(f"{prefix}{key} is {node[key]!r}, and the file states {value!r}"[:400])

    walk(yaml.load(text.decode("utf-8-sig"), Once) or {}, cfg, "")
    return RIGHT


class Configs(Kind):
    name, inputs = "configs", 500

    def one(self, chance: Random) -> str | None:
        what = chance.random()
        path = self.folder / "own.yaml"
        if what < 0.12:
            return self.chain(chance)
        text = METHOD if what < 0.35 else OWN
        data = perhaps_spoilt(chance, spoilt(chance, text), 0.15)
        path.write_bytes(data)
        if text == METHOD:
            dataset = CONFIGS / "datasets" / "caltech101.yaml"
            build_config("CoOp", (dataset, path), protocol=chance.choice(("base2new", "fewshot")))
            return RIGHT
        cfg = get_cfg_default()
        merge_file(cfg, str(path))
        check_ranges(cfg, RANGES)
        return compare(cfg, data)

    def chain(self, chance: Random) -> str:
        """Files that stand on others: long rows of them, circles, what is no file."""
        count, form = chance.choice((1, 3, 10, 50, 300)), chance.random()
        folder = self.folder / "chain"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / "again").symlink_to(folder)
        for number in range(count):
            last = number == count - 1
            base = f"{number + 1}.yaml"
            if last:
                base = chance.choice(
                    (None, "0.yaml", "again/0.yaml", "./again/../0.yaml", ".", "", "/dev/zero", "nowhere", *ODD[:30])
                )
            if form < 0.3 and base:
                base = f"again/{base}"
            text = "" if base is None else f"_BASE_: {base}\n"
            (folder / f"{number}.yaml").write_text(f"{text}OPTIM:\n  LR: {number + 1}\n", encoding="utf-8")
        tree = read_tree(str(folder / "0.yaml"))
        if tree["OPTIM"]["LR"] != 1:
            raise Wrong(f"the file below counts: {tree}")
        return RIGHT if base in (None, "null", "~", "") else REFUSED
