"""Merging files and options into the config (../dassl/config)."""

import os

import pytest

from dassl.config import clean_cfg, get_cfg_default, merge_file, merge_options, merge_tree, read_layers, read_tree
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import InputError
from one_run import config
from one_run.layout import OTHER_FILES
from tests.helpers import REPOSITORY


def test_values_are_evaluated_and_coerced(tmp_path):
    cfg = get_cfg_default()
    path = tmp_path / "a.yaml"
    path.write_text(
        "INPUT:\n  SIZE: (64, 64)\n  TRANSFORMS: [normalize]\n  PIXEL_MEAN: (0.1, 0.2, 0.3)\nOPTIM:\n  WARMUP_CONS_LR: 1e-5\n  LR: 1\n"
    )
    merge_file(cfg, str(path))
    assert (
        cfg.INPUT.SIZE == (64, 64)
        and cfg.INPUT.TRANSFORMS == ("normalize",)
        and cfg.INPUT.PIXEL_MEAN == [0.1, 0.2, 0.3]
    )
    assert cfg.OPTIM.WARMUP_CONS_LR == 1e-5 and isinstance(cfg.OPTIM.LR, float)
    merge_options(cfg, ["OPTIM.LR", "2e-3", "DATASET.NUM_SHOTS", "16", "USE_CUDA", "False", "OUTPUT_DIR", "123"])
    assert (cfg.OPTIM.LR, cfg.DATASET.NUM_SHOTS, cfg.USE_CUDA, cfg.OUTPUT_DIR) == (0.002, 16, False, "123")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["OPTIM.LRR", 1], "OPTIM.LRR is unknown; the nearest is OPTIM.LR"),
        (["OPTM.LR", 1], "the nearest is OPTIM.LR"),
        (["OPTIM", 1], "OPTIM is unknown"),
        (["OPTIM.LR.X", 1], "OPTIM.LR.X is unknown"),
        (["OPTIM.LR"], "OPTIM.LR has no value"),
        (["OPTIM.LR", "fast"], "takes a number, such as 0.0003, and got 'fast'"),
        (["OPTIM.MAX_EPOCH", "1.5"], "takes a whole number"),
        (["USE_CUDA", "1"], "takes True or False"),
        (["INPUT.SIZE", "64"], "takes a list"),
        (["OPTIM.LR", "[" * 5000], "takes a number, such as 0.0003, and got '[[["),
        (["OPTIM.LR", "-" * 2000 + "1"], "takes a number"),
        (["SEED", "{[]: 1}"], "takes a whole number"),
        (["SEED", "9**9**9"], "takes a whole number"),
        (["SEED", "0x" + "f" * 5000], "takes a whole number"),
    ],
)
def test_bad_options(options, says):
    with pytest.raises(InputError) as error:
        merge_options(get_cfg_default(), options)
    assert says in str(error.value)


BOMB = "a: &a0 [1, 1]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("OPTIM:\n  LRR: 1", "OPTIM.LRR is unknown"),
        ("OPTIM: 1", "OPTIM is a tree"),
        ("SEED:\n  A: 1", "SEED takes one value"),
        ("- a\n- b", "holds a list"),
        ("a: [1", "no valid YAML"),
        ("SEED: 1\nSEED: 2", "the key SEED stands twice"),
        ("SEED: &a [*a]", "a contains itself"),
        ("SEED: !!python/name:os.system x", "the tag tag:yaml.org,2002:python/name:os.system is not read"),
        ("SEED: " + "[" * 1000, "more than 50 levels"),
        (BOMB, "more than 10,000 values"),
        ("SEED: 0b_", "no valid YAML"),
        ("SEED: 0x" + "f" * 5000, "more than 3000 digits"),
        ("SEED: \udcff", "no valid YAML"),
        ("# " + "x" * 200_000, "more than 100,000 bytes"),
        ("_BASE_: [1]", "has a list as its _BASE_: name a file"),
    ],
)
def test_bad_files(tmp_path, text, says):
    path = tmp_path / "bad.yaml"
    path.write_bytes(os.fsencode(text))
    with pytest.raises(InputError) as error:
        merge_file(get_cfg_default(), str(path))
    assert says in str(error.value) and "bad.yaml" in str(error.value)


def test_missing_file_names_its_neighbours(tmp_path):
    (tmp_path / "there.yaml").write_text("")
    with pytest.raises(InputError, match=r"there are: there\.yaml"):
        merge_file(get_cfg_default(), str(tmp_path / "nowhere.yaml"))


def test_new_keys_where_they_are_allowed(tmp_path):
    cfg = get_cfg_default()
    (tmp_path / "defaults.yaml").write_text("TRAINER:\n  MINE:\n    N: 1e-3\n    NAME: x\n")
    merge_file(cfg, str(tmp_path / "defaults.yaml"), new_allowed=True)
    assert cfg.TRAINER.MINE.N == 0.001 and cfg.TRAINER.MINE.NAME == "x"
    merge_options(cfg, ["TRAINER.MINE.N", "0.5"])
    assert cfg.TRAINER.MINE.N == 0.5


def test_defaults_are_fresh():
    get_cfg_default().OPTIM.LR = 7.0
    assert get_cfg_default().OPTIM.LR == 0.0003


def test_clean():
    cfg = get_cfg_default()
    for name in ("COOP", "OTHER"):
        cfg.TRAINER[name] = type(cfg)()
    clean_cfg(cfg, "CoOp")
    assert set(cfg.TRAINER) == {"NAME", "COOP"}


OTHERS = [f"{name}.yaml" for name in OTHER_FILES]
SHIPPED = [  # those of configs/published are keys that foreign files lack, as a `defaults.yaml` has them
    path
    for path in sorted((REPOSITORY / "configs").rglob("*.yaml"))
    if path.name not in OTHERS and path.parent.name != "published"
]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: str(p.relative_to(REPOSITORY)))
def test_every_shipped_config(path):
    """It merges, and lists nothing that is the default anyway, but for what the files below set by protocol."""
    cfg = get_cfg_default()
    name = path.parent.name
    if path.parent.parent.name == "trainers" and name != "_base":
        config.install_keys(cfg, name, read_tree(str(path)))
    *below, (_, own) = read_layers(str(path))
    if path.parent.name == "datasets":
        config.install_data_keys(cfg, own["DATASET"]["NAME"])
    rows = own.pop("_SETTINGS_", [])
    by_protocol = {key.split(".")[-1] for _, layer in below for row in layer.pop("_SETTINGS_", []) for key in row}
    for _, layer in below:
        merge_tree(cfg, layer)
    before = cfg.clone()
    merge_tree(cfg, own)
    plugged = name in TRAINER_REGISTRY.registered_names() and hasattr(TRAINER_REGISTRY.get(name), "host_key")
    assert cfg != before or not own or rows or plugged  # which may stand on another as it is

    def values(tree, *nodes):
        for key, value in tree.items():
            if isinstance(value, dict):
                yield from values(value, *(node[key] for node in nodes))
            else:
                yield key, *(node[key] for node in nodes)

    allowed = {"WARMUP_CONS_LR", "BATCH_SIZE", "HOST", "SIZE"}  # a reader looks for these
    same = [key for key, now, then in values(own, cfg, before) if now == then and key not in allowed | by_protocol]
    assert not same


def test_a_file_stands_on_its_base(tmp_path):
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "a.yaml").write_text("OPTIM:\n  LR: 0.1\n  MAX_EPOCH: 7\nVERBOSE: False\n")
    (tmp_path / "b.yaml").write_text("_BASE_: below/a.yaml\nOPTIM:\n  LR: 0.2\n")
    (tmp_path / "c.yaml").write_text("_BASE_: b.yaml\nOPTIM:\n  MAX_EPOCH: 9\n")
    cfg = get_cfg_default()
    merge_file(cfg, str(tmp_path / "c.yaml"))
    assert (cfg.OPTIM.LR, cfg.OPTIM.MAX_EPOCH, cfg.VERBOSE) == (0.2, 9, False)
    (tmp_path / "below" / "a.yaml").write_text("_BASE_: ../c.yaml\n")
    with pytest.raises(InputError, match="break the circle"):
        merge_file(get_cfg_default(), str(tmp_path / "c.yaml"))
    for number in range(30):
        (tmp_path / f"{number}.yaml").write_text(f"_BASE_: {number + 1}.yaml\n")
    with pytest.raises(InputError, match="stands on top of 20 files"):
        merge_file(get_cfg_default(), str(tmp_path / "0.yaml"))
    (tmp_path / "b.yaml").write_text("_BASE_: nowhere.yaml\n")
    with pytest.raises(InputError, match=r"nowhere\.yaml does not exist"):
        merge_file(get_cfg_default(), str(tmp_path / "b.yaml"))
