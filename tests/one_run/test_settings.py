"""Settings by protocol, shots and data set (one_run/settings.py): those of the authors, and what rows may say."""

import pytest

from dassl.utils import InputError
from one_run.config import build_config
from one_run.layout import BENCHMARKS
from one_run.settings import PROTOCOLS
from tests.helpers import REPOSITORY, arguments, results
from train import main
from trainers.promptkd import WEIGHT, WEIGHTS

CONFIGS = REPOSITORY / "configs"
OTHERS = [name for name in BENCHMARKS if name != "imagenet"]
SOME = ["imagenet", "food101", "dtd"]
SHOTS, ENDS = [1, 2, 4, 8, 16], [1, 16]


def config(method, protocol="", dataset="dtd", shots=16, options=()):
    """METHOD or METHOD:CFG, as a run of a sweep has it."""
    method, _, name = method.partition(":")
    files = CONFIGS / f"datasets/{dataset}.yaml", CONFIGS / f"trainers/{method}/{name or 'vit_b16'}.yaml"
    return build_config(method, files, ["DATASET.NUM_SHOTS", str(shots), *options], protocol=protocol)


def value(cfg, key):
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


# --- the authors' settings, as they published them -------------------------------------------------------------------

EVERYWHERE = {
    "OPTIM.NAME": "sgd", "OPTIM.LR_SCHEDULER": "cosine", "OPTIM.WARMUP_EPOCH": 1, "OPTIM.WARMUP_TYPE": "constant",
    "OPTIM.WARMUP_CONS_LR": 1e-5, "INPUT.TRANSFORMS": ("random_resized_crop", "random_flip", "normalize"),
    "INPUT.INTERPOLATION": "bicubic", "INPUT.SIZE": (224, 224), "MODEL.BACKBONE.NAME": "ViT-B/16",
    "TEST.FINAL_MODEL": "last_step",
}  # fmt: skip


def optim(lr, batch, epochs) -> dict:
    return {"OPTIM.LR": lr, "DATALOADER.TRAIN_X.BATCH_SIZE": batch, "OPTIM.MAX_EPOCH": epochs}


def keys(node, **values) -> dict:
    return {f"TRAINER.{node}.{key}": value for key, value in values.items()}


def both(node, tokens, depth) -> dict:
    names = ("N_CTX_VISION", "N_CTX_TEXT"), ("PROMPT_DEPTH_VISION", "PROMPT_DEPTH_TEXT")
    return keys(node, **dict.fromkeys(names[0], tokens), **dict.fromkeys(names[1], depth))


def adamw(*values) -> dict:
    return optim(*values) | {"OPTIM.NAME": "adamw", "INPUT.RRCROP_SCALE": (0.5, 1)}


def mmrl(node, weight, **values) -> dict:
    shape = {
        "N_REP_TOKENS": 5,
        "REP_DIM": 512,
        "REP_LAYERS": (6, 7, 8, 9, 10, 11, 12),
        "ALPHA": 0.7,
        "LOGIT_SCALE": 100.0,
    }
    return keys(node, REG_WEIGHT=weight, **shape, **values)


PHOTO = "a photo of a"
WORDS, TOKENS = keys("COOP", CTX_INIT=PHOTO), keys("COOP", CTX_INIT="", N_CTX=16, CSC=False, CLASS_TOKEN_POSITION="end")
COCOOP = optim(0.002, 1, 10) | keys("COCOOP", CTX_INIT=PHOTO)
KGCOOP = optim(0.002, 128, 100) | keys("KGCOOP", CTX_INIT=PHOTO, N_CTX=4, W=8.0)
PROGRAD = keys("PROGRAD", N_CTX=16, CTX_INIT=True, LAMBDA=1.0)
MAPLE = optim(0.0035, 4, 5) | keys("MAPLE", N_CTX=2, PROMPT_DEPTH=9, CTX_INIT=PHOTO)
PROMPTSRC = both("PROMPTSRC", 4, 9) | keys("PROMPTSRC", TEXT_LOSS_WEIGHT=25.0, IMAGE_LOSS_WEIGHT=10.0, CTX_INIT=PHOTO)
CLIPFIT = keys("CLIPFIT", W=8.0)  # their W1 and W2 are read nowhere; the weight is a constant of their code
CLIPLORA = {"OPTIM.NAME": "adamw", "OPTIM.WEIGHT_DECAY": 0.01, "OPTIM.WARMUP_EPOCH": 0} | keys(
    "CLIPLORA", R=2, ALPHA=1.0, DROPOUT=0.25
)
TASKRES = {"OPTIM.NAME": "adam"} | keys("TASKRES", RESIDUAL_SCALE=0.5, ENHANCED_BASE="")
CLIPADAPTER = keys("CLIPADAPTER", RATIO=0.2, REDUCTION=4)
TIP = {
    "OPTIM.NAME": "adamw",
    "OPTIM.WEIGHT_DECAY": 0.01,
    "OPTIM.ADAM_EPS": 1e-4,
    "OPTIM.WARMUP_EPOCH": 0,
    "INPUT.RRCROP_SCALE": (0.5, 1.0),
}


def gda(alpha: float, shrink: bool, passes: int) -> dict:
    own = keys("GDA", ALPHA=alpha, SHRINK=shrink, AUGMENT=passes)
    return {"INPUT.RRCROP_SCALE": (0.5, 1.0), "OPTIM.MAX_EPOCH": 1} | own


TEXTREFINER = optim(0.002, 32, 10) | keys("TEXTREFINER", N_CTX=4, CTX_INIT=PHOTO)
TCP = (
    optim(0.002, 32, 50)
    | {"OPTIM.NAME": "adam", "OPTIM.ADAM_EPS": 1e-3}
    | keys("TCP", N_CTX=4, CTX_INIT="", BLOCK=9, W=8.0)
)
MMA = {"OPTIM.WARMUP_EPOCH": 0} | keys(
    "MMA", TEXT_CTX_INIT=PHOTO, ADAPTER_START=5, ADAPTER_END=12, ADAPTER_DIM=32, ADAPTER_SCALE=0.001
)
MMRLPP = [  # weight and BETA
    ("fgvc_aircraft", 2.0, 0.9), ("ucf101", 3.0, 0.9), ("dtd", 7.0, 0.9), ("oxford_pets", 0.01, 0.7), ("stanford_cars", 6.0, 0.7),
    ("caltech101", 3.0, 0.6), ("sun397", 3.0, 0.5), ("oxford_flowers", 7.0, 0.4), ("eurosat", 0.01, 0.2), ("food101", 1.0, 0.1),
]  # fmt: skip
PROMPTKD = optim(0.005, 8, 20) | keys(
    "PROMPTKD", N_CTX_VISION=4, TEACHER_NAME="ViT-L/14", TRANSDUCTIVE=True, TEMPERATURE=1.0
)
WIDE = ["imagenet", "caltech101", "oxford_pets", "food101", "ucf101", "sun397"]
NARROW = ["stanford_cars", "oxford_flowers", "fgvc_aircraft", "dtd", "eurosat"]
HARD = ["oxford_flowers", "dtd", "eurosat"]

# METHOD or METHOD:CFG, protocol, data sets, shots, config. SOME and ENDS stand for all where none is set apart.
TABLE = [
    ("CoOp", "base2new", OTHERS, [16], optim(0.002, 32, 200) | WORDS),
    ("CoOp", "base2new", ["imagenet"], [16], optim(0.002, 32, 50) | WORDS),
    ("CoOp", "fewshot", ["caltech101", "dtd"], [1], optim(0.002, 32, 50) | TOKENS),
    ("CoOp", "fewshot", ["caltech101", "dtd"], [2, 4], optim(0.002, 32, 100) | TOKENS),
    ("CoOp", "fewshot", OTHERS, [8, 16], optim(0.002, 32, 200) | TOKENS),
    ("CoOp", "fewshot", ["imagenet"], SHOTS, optim(0.002, 32, 50) | TOKENS),
    ("CoOp", "xd", ["imagenet"], [16], optim(0.002, 32, 50) | WORDS),
    *(("CoCoOp", protocol, SOME, ENDS, COCOOP) for protocol in ("base2new", "fewshot", "xd")),
    *(("KgCoOp", protocol, SOME, ENDS, KGCOOP) for protocol in ("base2new", "fewshot")),
    ("KgCoOp", "xd", ["imagenet"], [4], KGCOOP),
    # ProGrad's README: on ImageNet its 50-epoch config; from few shots CoOp's epochs, and LAMBDA 0.8 on three data sets.
    *(
        (f"ProGrad:{name}", *row, {"MODEL.BACKBONE.NAME": backbone} | more)
        for name, backbone in (("rn50", "RN50"), ("vit_b16", "ViT-B/16"))
        for *row, more in [
            ("base2new", OTHERS, [4], optim(0.002, 32, 100) | PROGRAD),
            ("base2new", ["imagenet"], [4], optim(0.002, 32, 50) | PROGRAD),
            ("fewshot", HARD, [1], optim(0.002, 32, 50) | PROGRAD),
            ("fewshot", HARD, [2, 4], optim(0.002, 32, 100) | PROGRAD),
            ("fewshot", [name for name in OTHERS if name not in HARD], [8, 16], optim(0.002, 32, 200) | PROGRAD),
            ("fewshot", HARD, [8, 16], optim(0.002, 32, 200) | PROGRAD | keys("PROGRAD", LAMBDA=0.8)),
            ("fewshot", ["imagenet"], SHOTS, optim(0.002, 32, 50) | PROGRAD),
            ("xd", ["imagenet"], [4], optim(0.002, 32, 50) | PROGRAD),
        ]
    ),
    ("VPT", "base2new", SOME, [16], optim(0.0025, 4, 5) | keys("VPT", N_CTX_VISION=8, PROMPT_DEPTH_VISION=12)),
    ("IVLP", "base2new", SOME, [16], optim(0.0035, 4, 5) | both("IVLP", 2, 12)),
    ("IVLP:vit_b16_promptsrc", "base2new", SOME, [16], optim(0.0025, 4, 20) | both("IVLP", 4, 9)),
    ("MaPLe", "base2new", SOME, [16], MAPLE),
    ("MaPLe", "xd", ["imagenet"], [16], MAPLE | optim(0.0026, 4, 2) | keys("MAPLE", PROMPT_DEPTH=3)),
    ("PromptSRC", "base2new", SOME, [16], optim(0.0025, 4, 20) | PROMPTSRC | keys("PROMPTSRC", GPA_MEAN=15.0, GPA_STD=1.0)),
    ("PromptSRC", "fewshot", WIDE, ENDS, optim(0.0025, 4, 50) | PROMPTSRC | keys("PROMPTSRC", GPA_MEAN=30.0, GPA_STD=30.0)),
    ("PromptSRC", "fewshot", NARROW, ENDS, optim(0.0025, 4, 50) | PROMPTSRC | keys("PROMPTSRC", GPA_MEAN=45.0, GPA_STD=5.0)),
    ("PromptSRC", "xd", ["imagenet"], [16], optim(0.0025, 4, 20) | PROMPTSRC | both("PROMPTSRC", 4, 3) | keys("PROMPTSRC", GPA_MEAN=6.0, GPA_STD=10.0)),
    ("CLIPFit", "base2new", SOME, [16], optim(0.002, 32, 10) | CLIPFIT),
    ("CLIPFit", "fewshot", SOME, SHOTS, optim(0.002, 32, 100) | CLIPFIT),
    ("CLIPFit", "xd", ["imagenet"], [16], optim(0.002, 32, 20) | CLIPFIT),
    *((name, "fewshot", SOME, SHOTS, optim(0.1, 256, 300) | {"OPTIM.WEIGHT_DECAY": 0.0, "DATALOADER.VIEWS": 20} | keys("CLAP", CONSTRAINT=how)) for name, how in (("CLAP", "l2"), ("CLAP:vit_b16_zslp", "none"))),
    ("CLIPLoRA", "fewshot", ["caltech101", "fgvc_aircraft"], SHOTS, CLIPLORA | optim(0.0002, 32, 160)),
    ("CLIPLoRA", "fewshot", ["imagenet"], SHOTS, CLIPLORA | optim(0.0002, 32, 16)),
    ("CLIPLoRA", "fewshot", ["eurosat"], SHOTS, CLIPLORA | optim(0.0002, 32, 1600)),
    ("LinearProbe", "fewshot", SOME, SHOTS, {"INPUT.TRANSFORMS": ("normalize",), "OPTIM.MAX_EPOCH": 1} | keys("LINEARPROBE", C=0.316, SEARCH=False)),
    *(
        ("TaskRes", protocol, *row)
        for protocol in ("base2new", "fewshot")
        for row in [
            (["caltech101", "dtd"], [1, 2, 4], optim(0.002, 256, 100) | TASKRES),
            (["caltech101", "dtd"], [8, 16], optim(0.002, 256, 200) | TASKRES),
            (["oxford_flowers"], ENDS, TASKRES | {"TRAINER.TASKRES.RESIDUAL_SCALE": 1.0}),
            (["imagenet"], [4], optim(0.0002, 256, 100) | TASKRES),
            (["imagenet"], [16], optim(0.0002, 256, 200) | TASKRES),
        ]
    ),
    # CLIP-Adapter's README: CoOp's command.
    *(
        ("GDA", "base2new", [dataset], [16], gda(0.1, False, 1 if dataset == "imagenet" else 10))
        for dataset in ["imagenet", *OTHERS]
    ),
    *(
        ("GDA", "fewshot", SOME, [shots], gda(alpha, True, 10))
        for shots, alpha in [(1, 0.001), (2, 0.1), (4, 0.1), (8, 1.0), (16, 10.0)]
    ),
    # Tip-Adapter's configs, one a data set, of RN50.
    *(
        (method, "fewshot", [dataset], ENDS, more | keys(method.upper(), ALPHA=alpha, BETA=1.0, AUGMENT=10, SEARCH=grid))
        for dataset, alpha, grid in [
            ("caltech101", 3.0, (12.0, 5.0)), ("dtd", 2.0, (13.0, 13.0)), ("eurosat", 2.0, (12.0, 10.0)),
            ("fgvc_aircraft", 5.0, (30.0, 30.0)), ("food101", 1.17, (10.0, 10.0)), ("imagenet", 1.17, (7.0, 3.0)),
            ("oxford_flowers", 10.0, (50.0, 50.0)), ("oxford_pets", 1.17, (7.0, 3.0)), ("stanford_cars", 3.0, (20.0, 10.0)),
            ("sun397", 1.17, (12.0, 10.0)), ("ucf101", 3.0, (7.0, 3.0)),
        ]
        for method, more in [
            ("TipAdapter", optim(0.002, 256, 1) | {"INPUT.RRCROP_SCALE": (0.5, 1.0)}),
            ("TipAdapterF", optim(0.001, 256, 100 if dataset == "eurosat" else 20) | TIP),
        ]
    ),
    ("CLIPAdapter", "base2new", OTHERS, [16], optim(0.002, 32, 200) | CLIPADAPTER),
    ("CLIPAdapter", "fewshot", ["caltech101", "dtd"], [1], optim(0.002, 32, 50) | CLIPADAPTER),
    ("CLIPAdapter", "fewshot", ["caltech101", "dtd"], [2, 4], optim(0.002, 32, 100) | CLIPADAPTER),
    ("CLIPAdapter", "fewshot", OTHERS, [8, 16], optim(0.002, 32, 200) | CLIPADAPTER),
    ("CLIPAdapter", "fewshot", ["imagenet"], SHOTS, optim(0.002, 32, 50) | CLIPADAPTER),
    ("CLIPAdapter", "xd", ["imagenet"], [16], optim(0.002, 32, 50) | CLIPADAPTER),
    ("TextRefiner", "base2new", SOME, [16], TEXTREFINER),
    ("TextRefiner", "xd", ["imagenet"], [16], TEXTREFINER),
    ("TextRefiner:vit_b16_lr1e-3", "base2new", SOME, [16], TEXTREFINER | optim(0.001, 32, 10)),
    ("TextRefiner:vit_b16_lr8e-4", "base2new", SOME, [16], TEXTREFINER | optim(0.0008, 32, 10)),
    ("TCP", "base2new", SOME, [16], TCP),
    ("ATPrompt", "base2new", ["caltech101", "sun397"], [16], optim(0.002, 32, 100) | keys("ATPROMPT", N_CTX=2, ATTRIBUTES="", PROMPT_DEPTH=0)),
    ("ATPrompt", "base2new", ["dtd"], [16], optim(0.002, 32, 100) | keys("ATPROMPT", N_CTX=4)),
    ("ATPrompt", "base2new", ["imagenet"], [16], optim(0.002, 32, 10) | keys("ATPROMPT", N_CTX=2)),
    ("ATPrompt", "xd", SOME, [16], optim(0.002, 32, 10) | keys("ATPROMPT", N_CTX=4)),
    ("ATPrompt:vit_b16_maple", "base2new", SOME, [16], optim(0.0035, 4, 5) | keys("ATPROMPT", N_CTX=4, PROMPT_DEPTH=9)),
    ("ATPrompt:vit_b16_maple", "base2new", ["eurosat", "oxford_pets"], [16], optim(0.0035, 4, 10) | keys("ATPROMPT", N_CTX=4)),
    ("ATPrompt:vit_b16_maple", "base2new", ["ucf101", "fgvc_aircraft"], [16], optim(0.0035, 4, 5) | keys("ATPROMPT", N_CTX=2)),
    ("ATPrompt:vit_b16_maple", "xd", ["imagenet", "ucf101"], [16], optim(0.0026, 4, 2) | keys("ATPROMPT", N_CTX=4, PROMPT_DEPTH=3)),
    *(
        (f"DePT{file}", protocol, SOME, [16], optim(0.0035, 4, 10) | keys("DEPT", WEIGHT=0.7, LR_TIMES=6.5) | host)
        for protocol in ("base2new", "xd")
        for file, host in (
            ("", TOKENS | keys("DEPT", HOST="CoOp")),
            (":vit_b16_kgcoop", KGCOOP | optim(0.0035, 4, 10) | keys("KGCOOP", W=2.0)),
            (":vit_b16_maple", MAPLE | optim(0.0035, 4, 10)),
        )
    ),
    ("MMA", "base2new", OTHERS, [16], optim(0.0015, 16, 5) | MMA),
    ("MMA", "base2new", ["imagenet"], [16], optim(0.0015, 128, 5) | MMA),
    *(("MMRL", "base2new", [name], [16], adamw(0.001, 4, 10) | mmrl("MMRL", weight)) for name, weight in [("dtd", 6.0), ("oxford_pets", 0.2), ("caltech101", 0.5), ("stanford_cars", 7.0), ("food101", 5.0)]),
    ("MMRL", "base2new", ["eurosat"], [16], adamw(0.001, 4, 10) | keys("MMRL", REG_WEIGHT=0.01, REP_DIM=2048)),
    *(("MMRL", protocol, ["imagenet"], [16], adamw(0.001, 32, 5) | mmrl("MMRL", 0.5)) for protocol in ("base2new", "fewshot")),
    *(("MMRL", "fewshot", [name], ENDS, adamw(0.001, 32, 50) | mmrl("MMRL", weight)) for name, weight in [("ucf101", 3.0), ("oxford_flowers", 4.0), ("fgvc_aircraft", 6.0), ("sun397", 6.0)]),
    ("MMRL", "xd", BENCHMARKS, [16], adamw(0.001, 32, 1) | {"OPTIM.WARMUP_EPOCH": 0} | mmrl("MMRL", 0.2)),
    *(("MMRLpp", "base2new", [name], [16], adamw(0.001, 4, 10) | mmrl("MMRLPP", weight, BETA=beta)) for name, weight, beta in MMRLPP),
    *(("MMRLpp", protocol, ["imagenet"], [16], adamw(0.001, 32, 5) | mmrl("MMRLPP", 0.2, BETA=0.9)) for protocol in ("base2new", "fewshot")),
    *(("MMRLpp", "fewshot", [name], ENDS, adamw(0.002, 32, 100) | mmrl("MMRLPP", weight, BETA=beta)) for name, weight, beta in MMRLPP),
    ("MMRLpp", "xd", BENCHMARKS, [16], adamw(0.001, 32, 1) | {"OPTIM.WARMUP_EPOCH": 0} | mmrl("MMRLPP", 0.1, BETA=0.9)),
    ("PromptKD", "base2new", SOME, [16], PROMPTKD | keys("PROMPTKD", PROMPT_DEPTH_VISION=9)),
    ("PromptKD", "xd", OTHERS, [16], PROMPTKD | keys("PROMPTKD", PROMPT_DEPTH_VISION=3, KD_WEIGHT=1000.0)),
    *(  # its teacher is the same everywhere
        ("PromptSRC:vit_l14", protocol, SOME, ENDS, {"MODEL.BACKBONE.NAME": "ViT-L/14"} | optim(0.005, 8, 20) | PROMPTSRC | keys("PROMPTSRC", GPA_MEAN=15.0, GPA_STD=1.0))
        for protocol in ("base2new", "fewshot", "xd")
    ),
]  # fmt: skip
# What the authors leave open is as from base to new.
OPEN = [("VPT", "fewshot"), ("VPT", "xd"), ("IVLP", "fewshot"), ("IVLP", "xd"), ("IVLP:vit_b16_promptsrc", "fewshot"), ("IVLP:vit_b16_promptsrc", "xd"), ("MaPLe", "fewshot"), ("TextRefiner", "fewshot"), ("TCP", "fewshot"), ("TCP", "xd"), ("MMA", "fewshot"), ("MMA", "xd"), ("GDA", "xd"), ("PromptKD", "fewshot"), ("DePT", "fewshot"), ("ATPrompt", "fewshot"), ("ATPrompt:vit_b16_maple", "fewshot")]  # fmt: skip
STRENGTHS = ("GDA", "TipAdapter", "TipAdapterF")  # validation images choose them, as published
BEST_EPOCH = ("TextRefiner", "PromptKD")  # on validation images, as published
HOSTS = {"vit_b16": "CoOp", **{f"vit_b16_{host.lower()}": host for host in ("CoCoOp", "KgCoOp", "CLIPFit", "CLIPLoRA", "CLIPAdapter", "TCP", "ATPrompt", "MaPLe", "PromptSRC", "MMA", "MMRL", "PromptKD")}}  # fmt: skip


@pytest.mark.parametrize(
    ("method", "protocol", "datasets", "shots", "expected"), TABLE, ids=lambda part: str(part)[:30]
)
def test_the_authors_settings(method, protocol, datasets, shots, expected):
    for dataset in datasets:
        for k in shots:
            cfg = config(method, protocol, dataset, k)
            found = {key: value(cfg, key) for key in EVERYWHERE | expected}
            assert found == EVERYWHERE | expected, (dataset, k)
            assert protocol == cfg.SETTINGS.PROTOCOL and not cfg.SETTINGS.CHANGED


def test_the_weight_of_distillation():
    """From base to new classes the config leaves it to the data set."""
    for dataset in BENCHMARKS:
        cfg = config("PromptKD", "base2new", dataset)
        weight = cfg.TRAINER.PROMPTKD.KD_WEIGHT or WEIGHTS.get(cfg.DATASET.NAME, WEIGHT)
        assert weight == (200 if dataset in ("fgvc_aircraft", "oxford_flowers", "dtd") else 1000)


@pytest.mark.parametrize(("method", "protocol"), OPEN)
def test_what_the_authors_leave_open(method, protocol):
    for dataset in ("imagenet", "dtd"):
        assert "base2new" not in config(method, protocol, dataset).SETTINGS.UNLIKE


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_mode_paper_tests_the_best_epoch_where_its_authors_do(protocol):
    for method in (
        "CoOp",
        "CoCoOp",
        "KgCoOp",
        "MaPLe",
        "PromptSRC",
        "CLIPFit",
        "TCP",
        "MMA",
        "MMRL",
        *BEST_EPOCH,
        *STRENGTHS,
    ):
        final = config(method, protocol, options=["SETTINGS.MODE", "paper"]).TEST.FINAL_MODEL
        assert final == ("best_val" if method in BEST_EPOCH + STRENGTHS else "last_step")


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("name", "host"), HOSTS.items())
def test_spotlighter_trains_as_its_host_does(name, host, protocol):
    for dataset, shots in (("imagenet", 16), ("dtd", 1), ("dtd", 16)):
        ours, theirs = config(f"Spotlighter:{name}", protocol, dataset, shots), config(host, protocol, dataset, shots)
        assert ours.SETTINGS == theirs.SETTINGS
        head = ours.TRAINER.SPOTLIGHTER
        assert theirs.TRAINER | {"NAME": "Spotlighter", "SPOTLIGHTER": head} == ours.TRAINER
        assert {key: ours[key] for key in ours if key != "TRAINER"} == {key: theirs[key] for key in theirs if key != "TRAINER"}  # fmt: skip
        assert head == config(f"Spotlighter:{name}").TRAINER.SPOTLIGHTER


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_papers_form_of_spotlighter_trains_as_its_authors_script(protocol):
    """Everywhere: from the words, for 20 epochs, in batches of 64, with the level losses over 50."""
    for dataset, shots in (("imagenet", 16), ("dtd", 1), ("dtd", 16)):
        cfg = config("Spotlighter:vit_b16_paper", protocol, dataset, shots)
        assert (cfg.OPTIM.MAX_EPOCH, cfg.OPTIM.LR, cfg.DATALOADER.TRAIN_X.BATCH_SIZE) == (20, 0.002, 64)
        assert cfg.TRAINER.COOP.CTX_INIT == "a photo of a" and cfg.TRAINER.SPOTLIGHTER.LOSS.LEVELS == 1 / 50
        assert cfg.TEST.FINAL_MODEL == "last_step"
    paper = config("Spotlighter:vit_b16_paper", protocol, options=["SETTINGS.MODE", "paper"])
    assert paper.TEST.FINAL_MODEL == "best_val"


# --- how a run gets them ---------------------------------------------------------------------------------------------


def test_without_a_protocol_a_run_has_those_of_base_to_new():
    for dataset in ("imagenet", "dtd"):
        assert config("MaPLe", "", dataset) == config("MaPLe", "base2new", dataset)
    by_key = config("MaPLe", options=["SETTINGS.PROTOCOL", "xd"])
    assert by_key == config("MaPLe", "xd") and by_key.OPTIM.MAX_EPOCH == 2


def test_what_was_used_is_said():
    said = config("CoOp", "fewshot", "dtd", 4, ["OPTIM.LR", "0.1", "TRAINER.COOP.PREC", "fp32"]).SETTINGS
    assert said.ROWS == [
        "protocol fewshot: TRAINER.COOP.CTX_INIT ''",
        "protocol fewshot, shots 2 or 4: OPTIM.MAX_EPOCH 100",
    ]
    assert said.CHANGED == ["OPTIM.LR 0.1 in place of 0.002"]  # how it is computed is no setting
    assert said.UNLIKE == ["base2new", "xd"]
    assert config("CoOp", "", "imagenet").SETTINGS.UNLIKE == ["fewshot"]
    epochs = ["OPTIM.MAX_EPOCH", 3, "OPTIM.LR", 0.1, "TRAINER.MAPLE.PROMPT_DEPTH", 3]
    assert config("MaPLe", "xd", options=epochs).SETTINGS.UNLIKE == []  # what differed was given


def test_views_of_training_images_are_a_setting():
    """They are another experiment; where features are kept is none."""
    options = ["DATALOADER.VIEWS", "4", "FEATURES.DIR", "elsewhere"]
    assert config("CoOp", options=options).SETTINGS.CHANGED == ["DATALOADER.VIEWS 4 in place of 0"]


def test_the_record_says_it(data_root, tmp_path):
    line = arguments(data_root, tmp_path, "CoOp", config_file=CONFIGS / "trainers/CoOp/vit_b16.yaml", protocol="fewshot", no_train=True, backbone="ViT-Embedded/8", options=["INPUT.SIZE", "(64, 64)"])  # fmt: skip
    assert main(line) == 0
    record = results(tmp_path)
    assert record["settings"] == {
        "protocol": "fewshot",
        "mode": "strict",
        "rows": ["protocol fewshot: TRAINER.COOP.CTX_INIT ''", "protocol fewshot, shots 2 or 4: OPTIM.MAX_EPOCH 100"],
        "changed": [
            "INPUT.SIZE (64, 64) in place of (224, 224)",
            "DATALOADER.TRAIN_X.BATCH_SIZE 4 in place of 32",
            "MODEL.BACKBONE.NAME ViT-Embedded/8 in place of ViT-B/16",
            "OPTIM.MAX_EPOCH 3 in place of 100",
        ],
        "unlike": ["base2new", "xd"],
    }
    assert "SETTINGS" not in record["config"]  # whose settings they are has no part in what a run is


# --- rows ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def of(tmp_path):
    """MAX_EPOCH and LR of CoOp with files of rows, the last of which is asked for."""

    def epochs_and_rate(*files, protocol="", shots=16, options=()):
        for number, text in enumerate(files):
            base = f"_BASE_: {number - 1}.yaml\n" if number else ""
            (tmp_path / f"{number}.yaml").write_text(base + text)
        path = tmp_path / f"{len(files) - 1}.yaml"
        files = CONFIGS / "datasets/dtd.yaml", path
        cfg = build_config("CoOp", files, ["DATASET.NUM_SHOTS", shots, *options], protocol=protocol)
        return cfg.OPTIM.MAX_EPOCH, cfg.OPTIM.LR

    return epochs_and_rate


BASE = """
OPTIM: {MAX_EPOCH: 9, LR: 0.5}
_SETTINGS_:
  - {protocol: [fewshot, xd], OPTIM.MAX_EPOCH: 5}
  - {protocol: fewshot, shots: [1, 2], OPTIM.MAX_EPOCH: 2, OPTIM.LR: 1e-3}
  - {dataset: DescribableTextures, shots: 3, OPTIM.LR: 0.3}
"""


def test_all_rows_that_hold_count_in_order(of):
    assert of(BASE) == (9, 0.5) and of(BASE, protocol="xd") == (5, 0.5)
    assert of(BASE, protocol="fewshot", shots=2) == (2, 0.001)
    assert of(BASE, shots=3) == (9, 0.3)


def test_a_file_counts_over_all_of_its_base_and_options_over_all(of):
    assert of(BASE, "OPTIM: {LR: 0.7}", protocol="fewshot", shots=1) == (2, 0.7)
    own = "_SETTINGS_:\n  - {protocol: fewshot, OPTIM.MAX_EPOCH: 7}"
    assert of(BASE, own, protocol="fewshot", shots=1) == (7, 0.001) and of(BASE, own) == (9, 0.5)
    assert of(BASE, own, protocol="fewshot", options=["OPTIM.MAX_EPOCH", 1]) == (1, 0.5)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("{protocol: xd, OPTIM.MAX_EPOCHS: 5}", r"OPTIM\.MAX_EPOCHS is unknown \(in a row of _SETTINGS_ in .*0\.yaml"),
        ("{protocol: xd, OPTIM.MAX_EPOCH: many}", "OPTIM.MAX_EPOCH takes a whole number"),
        ("{protocol: xd, OPTIM: {LR: 1.0}}", "names keys in full"),
        ("{protocol: fewshots, OPTIM.LR: 1.0}", "protocol 'fewshots' never holds; the nearest protocol is fewshot"),
        ("{protocol: dg, OPTIM.LR: 1.0}", "protocol 'dg' never holds"),
        ("{dataset: dtd, OPTIM.LR: 1.0}", "dataset 'dtd' never holds"),
        ("{dataset: [DescribableTextures, ImageNett], OPTIM.LR: 1.0}", "the nearest dataset is ImageNet"),
        ("{shots: 0, OPTIM.LR: 1.0}", "shots 0 never holds: give whole numbers from 1"),
        ("{shots: ['16'], OPTIM.LR: 1.0}", "shots '16' never holds"),
        ("{shots: [], OPTIM.LR: 1.0}", "shots names nothing"),
        ("{shot: 1, protocol: xd, OPTIM.LR: 1.0}", "There is no condition shot, only protocol, shots, dataset, mode"),
        ("{OPTIM.LR: 1.0}", "needs a condition"),
        ("{protocol: xd}", "and a config key"),
        ("{protocol: xd, DATASET.NUM_SHOTS: 4}", "cannot set DATASET.NUM_SHOTS"),
        ("{protocol: xd, TRAINER.NAME: VPT}", "cannot set TRAINER.NAME"),
        ("OPTIM.LR", "must be a list of rows"),
    ],
)
def test_a_row_that_is_wrong_is_refused_also_where_it_does_not_hold(of, row, says):
    with pytest.raises(InputError, match=says):
        of(f"OPTIM: {{LR: 0.5}}\n_SETTINGS_: [{row}]", protocol="base2new")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["SETTINGS.PROTOCOL", "few_shot"], "SETTINGS.PROTOCOL is 'few_shot': choose one of base2new, fewshot, xd"),
        (["SETTINGS.PROTOCOL", "dg"], "ask for the protocol xd"),
        (["SETTINGS.MODE", "papers"], "SETTINGS.MODE is 'papers': choose one of strict, paper"),
        (["SETTINGS.ROWS", "[]"], "SETTINGS.ROWS is unknown"),
    ],
)
def test_what_cannot_be_asked_for(options, says):
    with pytest.raises(InputError, match=says):
        config("CoOp", options=options)
