"""Checkpoints in the layouts of methods' authors, with what upstream's warm-up pickles into them, are tested here.

Each is made of a short run of ours: its tensors under the authors' names, half precision aside, with the others that they
save beside them. The test of it must give the run's own figures.
"""

import argparse

import numpy as np
import pytest
import torch

import train
from tests.helpers import REPOSITORY, arguments, results
from tests.inert.written import save_as_upstream, upstream_schedule

EPOCH = 3  # of the short runs


def saved(state: dict, zipped: bool = True, **more):
    """A function that writes these tensors as the authors' code does, on upstream Dassl."""

    def write(path):
        path.parent.mkdir(parents=True)
        checkpoint = {
            "state_dict": state,
            "epoch": EPOCH,
            "optimizer": torch.optim.SGD(state.values(), lr=0.1).state_dict(),
            "scheduler": upstream_schedule(torch.nn.Parameter(value) for value in state.values() if value.is_floating_point()),
            "val_result": np.float64(71.5),
            "args": argparse.Namespace(seed=1),
            **more,
        }  # fmt: skip
        save_as_upstream(checkpoint, path, zipped)

    return write


def buffers(prefix: str = "") -> dict:
    """Embeddings of the class names in training, which are of no use at test."""
    return {f"{prefix}token_prefix": torch.zeros(5, 1, 128), f"{prefix}token_suffix": torch.zeros(5, 72, 128)}


def encoders() -> dict:
    """Some of the whole model, which its authors save with it."""
    return {"image_encoder.conv1.weight": torch.zeros(4, 3, 8, 8), "text_encoder.positional_embedding": torch.zeros(77, 128), "logit_scale": torch.tensor(4.6)}  # fmt: skip


def kgcoop(state: dict) -> dict:
    unused = {"bias_vectors": torch.zeros(1, 512), "meta_net.linear1.weight": torch.zeros(512, 512), "meta_net.linear1.bias": torch.zeros(512)}  # fmt: skip
    return {"prompt_learner": saved({**state, **unused, **buffers()})}


def prompts(state: dict) -> dict:
    """The deep prompts of a state under the authors' names."""
    theirs = {}
    for name, value in state.items():
        side, _, i = name.partition(".")
        if name in ("visual.0", "ctx"):
            theirs[{"visual.0": "image_encoder.VPT", "ctx": "prompt_learner.ctx"}[name]] = value
        elif side in ("visual", "text"):
            block = int(i) + (side == "text")
            encoder = "image_encoder" if side == "visual" else "text_encoder"
            theirs[f"{encoder}.transformer.resblocks.{block}.VPT_shallow"] = value
    return theirs


def promptsrc(state: dict) -> dict:
    frozen = {"prompt_learner.ZS_image_encoder.conv1.weight": torch.zeros(4, 3, 8, 8)}
    return {"VLPromptLearner": saved({**prompts(state), **buffers("prompt_learner."), **encoders(), **frozen})}


def convolutions(state: dict, ours: str, theirs: str) -> dict:
    """A projection as 1 x 1 convolutions."""
    return {
        name.replace(ours, theirs): value[..., None, None] if value.dim() == 2 else value
        for name, value in state.items()
        if name.startswith(ours)
    }


def promptkd(state: dict) -> dict:
    layers = convolutions(state, "projection", "VPT_image_trans.conv1")
    return {"VLPromptLearner": saved({**prompts(state), **encoders(), **layers})}


def textrefiner(state: dict) -> dict:
    """Two files: the model, and the memory, whose cache stands beside its state dict."""
    width = state["cache"].shape[1]
    statistics = {"running_mean": torch.zeros(width), "running_var": torch.ones(width), "num_batches_tracked": torch.tensor(9)}  # fmt: skip
    model = {"prompt_learner.ctx": state["ctx"], **buffers("prompt_learner."), **encoders()}
    model |= {"prompt_learner.tokenized_prompts": torch.zeros(5, 77, dtype=torch.long)}
    model |= convolutions(state, "project", "mid_image_trans.conv1")
    model |= {f"mid_image_trans.conv1.1.{name}": value for name, value in statistics.items()}
    memory = {"extractor.weight": state["refiner.weight"]}
    return {"prompt_learner": saved(model), "Memory": saved(memory, memory_item=state["cache"])}


def atprompt(state: dict) -> dict:
    words = {f"token_middle{i}": torch.zeros(5, 1, 128) for i in (1, 2)}
    return {"prompt_learner": saved({**state, **words, **buffers()})}


def clip_adapter(state: dict) -> dict:
    return {"clip_adapter": saved(state)}


def cliplora(state: dict) -> dict:
    """No state dict: a block's matrices are in a dict, the text encoder's blocks first."""
    blocks = [
        {
            part: {f"w_lora_{name}": state[f"lora.{tower}.{name}"][i, j].clone() for name in "AB"}
            for j, part in enumerate(("q_proj", "k_proj", "v_proj"))
        }
        for tower in ("text", "visual")
        for i in range(len(state[f"lora.{tower}.A"]))
    ]
    stated = {"r": 2, "alpha": 1, "encoder": "both", "params": ["q", "k", "v"], "position": "all"}
    return {"prompt_learner": lambda path: save_lora(path, blocks, stated)}


def save_lora(path, blocks: list, stated: dict) -> None:
    path.parent.mkdir(parents=True)
    torch.save({"weights": {f"layer_{i}": block for i, block in enumerate(blocks)}, "metadata": stated}, path)


LAYOUTS = {
    "ATPrompt": atprompt,
    "CLIPAdapter": clip_adapter,
    "CLIPLoRA": cliplora,
    "KgCoOp": kgcoop,
    "PromptSRC": promptsrc,
    "TextRefiner": textrefiner,
    "PromptKD": promptkd,
}
FOLDERS = {"ATPrompt": "prompt_learner", "CLIPAdapter": "clip_adapter", "CLIPLoRA": "prompt_learner", "KgCoOp": "prompt_learner", "PromptSRC": "VLPromptLearner", "TextRefiner": "prompt_learner", "PromptKD": "VLPromptLearner"}  # fmt: skip


@pytest.fixture(scope="module")
def runs(data_root, tmp_path_factory):
    """A short run of each method; PromptKD's teacher is that of PromptSRC in its authors' folder for other data sets."""
    root = tmp_path_factory.mktemp("published")
    for method in LAYOUTS:
        assert train.main(line(data_root, root / method, method, root)) == 0
        state = torch.load(checkpoint(root / method, method), weights_only=True)["state_dict"]
        if method == "PromptSRC":
            promptsrc(state)["VLPromptLearner"](root / "teacher" / "VLPromptLearner_large" / "model.pth.tar-20")
    return root


def line(data_root, output, method, runs, **flags):
    options = ["USE_CUDA", False]
    options += ["TRAINER.PROMPTKD.TEACHER_DIR", runs / "teacher"] if method == "PromptKD" else []
    config = REPOSITORY / f"configs/trainers/{method}/embedded.yaml"
    return arguments(data_root, output, method, config_file=config, options=options, **flags)


def checkpoint(run, method):
    return run / FOLDERS[method] / f"model.pth.tar-{EPOCH}"


def write(folder, method, runs) -> None:
    state = torch.load(checkpoint(runs / method, method), weights_only=True)["state_dict"]
    for name, write_part in LAYOUTS[method](state).items():
        write_part(folder / name / f"model.pth.tar-{EPOCH}")


def evaluate(data_root, output, method, runs, folder) -> int:
    return train.main(line(data_root, output, method, runs, model_dir=folder, load_epoch=EPOCH, eval_only=True))


@pytest.mark.parametrize("method", LAYOUTS)
def test_a_published_layout_gives_the_figures_of_its_run(data_root, tmp_path, runs, method):
    write(tmp_path / "theirs", method, runs)
    assert evaluate(data_root, tmp_path / "test", method, runs, tmp_path / "theirs") == 0
    assert results(tmp_path / "test")["classwise"] == results(runs / method)["classwise"]


def test_what_was_learned_is_what_is_loaded(data_root, tmp_path, runs):
    """The figures above could agree by chance on so few images: the tensors are those of the run, all of them."""
    from dassl.engine import build_trainer

    for method in LAYOUTS:
        write(tmp_path / method, method, runs)
        trainer = build_trainer(
            train.build_config(train.parse_arguments(line(data_root, tmp_path / "x", method, runs)))
        )
        trainer.load_model(str(tmp_path / method), epoch=EPOCH)
        learned = torch.load(checkpoint(runs / method, method), weights_only=True)["state_dict"]
        loaded = trainer.model.prompt_learner.state_dict()
        assert loaded.keys() == learned.keys()
        for name in learned.keys() - {"aggregate"}:  # PromptSRC's average of the epochs, which its authors do not save
            assert torch.equal(loaded[name], learned[name]), (method, name)


@pytest.mark.parametrize("method", ["KgCoOp", "PromptSRC"])
def test_a_part_that_is_missing_is_named(data_root, tmp_path, runs, method, capsys):
    state = torch.load(checkpoint(runs / method, method), weights_only=True)["state_dict"]
    del state["ctx"]
    LAYOUTS[method](state)[FOLDERS[method]](checkpoint(tmp_path / "theirs", method))
    assert evaluate(data_root, tmp_path / "test", method, runs, tmp_path / "theirs") == 2
    said = capsys.readouterr().err
    assert 'Missing key(s) in state_dict: "ctx"' in said and len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda memory: memory.unlink(), "Memory/model.pth.tar-3, is missing: put it there"),
        (lambda memory: torch.save({"state_dict": {}, "epoch": 3}, memory), "lacks memory_item, the cache, or extractor.weight"),
    ],
)  # fmt: skip
def test_textrefiner_without_its_memory(data_root, tmp_path, runs, capsys, spoil, says):
    write(tmp_path / "theirs", "TextRefiner", runs)
    spoil(tmp_path / "theirs" / "Memory" / f"model.pth.tar-{EPOCH}")
    assert evaluate(data_root, tmp_path / "test", "TextRefiner", runs, tmp_path / "theirs") == 2
    said = capsys.readouterr().err
    assert says in said and len(said.splitlines()) == 1


def test_textrefiner_over_promptkd_is_no_promptkd(data_root, tmp_path, runs, capsys):
    state = torch.load(checkpoint(runs / "PromptKD", "PromptKD"), weights_only=True)["state_dict"]
    theirs = {**prompts(state), **encoders(), **convolutions(state, "projection", "VPT_image_trans.conv1")}
    theirs |= {
        name.replace("VPT_image", "mid_image"): value.clone() for name, value in theirs.items() if "conv1." in name
    }
    saved(theirs)(tmp_path / "theirs" / "VLPromptLearner" / f"model.pth.tar-{EPOCH}")
    assert evaluate(data_root, tmp_path / "test", "PromptKD", runs, tmp_path / "theirs") == 2
    assert "TextRefiner over PromptKD" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda file: file["metadata"].update(r=4), "was trained with r 4, and this run has 2: set TRAINER.CLIPLORA.R."),
        (lambda file: file["metadata"].update(encoder="vision"), "was trained with encoder vision, and this run has both"),
        (lambda file: file["weights"].popitem(), "has not the matrices of"),
    ],
)  # fmt: skip
def test_a_cliplora_of_another_kind(data_root, tmp_path, runs, capsys, spoil, says):
    write(tmp_path / "theirs", "CLIPLoRA", runs)
    path = checkpoint(tmp_path / "theirs", "CLIPLoRA")
    file = torch.load(path, weights_only=True)
    spoil(file)
    torch.save(file, path)
    assert evaluate(data_root, tmp_path / "test", "CLIPLoRA", runs, tmp_path / "theirs") == 2
    said = capsys.readouterr().err
    assert says in said and len(said.splitlines()) == 1
