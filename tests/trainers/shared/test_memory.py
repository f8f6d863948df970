"""Memory (../../../trainers/shared/memory.py): every method learns the same in parts; what there is, what is said and what is refused."""

import pytest
import torch

import train
from clip.parts import activations
from dassl.engine import build_trainer
from dassl.utils import set_random_seed
from tests.helpers import REPOSITORY, arguments, results
from trainers.shared import memory
from trainers.shared.memory import LEAST_MB, MB, limits, memory_of, of_machine, text_memory

CPU = torch.device("cpu")
METHODS = {
    "CoOp": ("CoOp",),
    "CoOp, a context for each class": ("CoOp", "COOP.CSC", True),
    "CoOp, the class in the middle": ("CoOp", "COOP.CLASS_TOKEN_POSITION", "middle"),
    "CoCoOp": ("CoCoOp",),
    "KgCoOp": ("KgCoOp",),
    "ProGrad": ("ProGrad",),
    "IVLP": ("IVLP",),
    "MaPLe": ("MaPLe",),
    "PromptSRC": ("PromptSRC",),
    "CLIPFit": ("CLIPFit",),
    "CLIPLoRA": ("CLIPLoRA", "CLIPLORA.DROPOUT", 0.0),
    "TextRefiner": ("TextRefiner",),
    "TCP": ("TCP",),
    "ATPrompt": ("ATPrompt",),
    "ATPrompt, deep": ("ATPrompt/embedded_maple",),
    "DePT": ("DePT",),
    "MMA": ("MMA",),
    "MMRL": ("MMRL",),
    "Spotlighter": ("Spotlighter", "SPOTLIGHTER.JOINT", True),
    "Spotlighter over MaPLe": ("Spotlighter/embedded_maple",),
}


def built(data_root, output, method, *keys, memory_mb=0.0):
    set_random_seed(1)
    named = [part for key, value in zip(keys[::2], keys[1::2], strict=True) for part in (f"TRAINER.{key}", value)]
    options = [*named, "TRAINER.MEMORY_MB", memory_mb]
    method, _, setting = method.partition("/")
    file = REPOSITORY / f"configs/trainers/{method}/{setting or 'embedded'}.yaml"
    line = arguments(data_root, output, method, subsample="all", options=options, config_file=file)
    return build_trainer(train.build_config(train.parse_arguments(line)))


def step(trainer):
    """The loss of a first step, with its gradients, and how many places of texts went through the encoder at a time."""
    trainer.epoch, trainer.batch_idx, trainer.num_batches, trainer.max_epoch = 0, 0, 9, 9
    if hasattr(trainer, "encode_shots"):
        trainer.shots = trainer.encode_shots(0)
    torch.manual_seed(2)
    batch = next(iter(trainer.train_loader_x))
    places, encoder = [], trainer.model.clip.transformer
    last = encoder.resblocks[-1].mlp  # what all prompts share does not come so far
    last.register_forward_hook(lambda _, x, y: places.append((y[..., 0].numel(), torch.is_grad_enabled())))
    loss = float(trainer.forward_backward(batch)["loss"])
    gradients = [p.grad for p in trainer.model.prompt_learner.parameters() if p.grad is not None]
    return loss, gradients, [count for count, learns in places if learns]


@pytest.mark.parametrize("case", METHODS)
def test_every_method_learns_the_same_in_parts(data_root, tmp_path, case):
    """A loss, to 1e-6, and its gradients, to 1e-5 of their norm; by default few classes are one part."""
    method, *keys = METHODS[case]
    whole = built(data_root, tmp_path, method, *keys)
    assert whole.memory.parts == 1 and whole.memory.prompts == (20 if method == "CoCoOp" else 5)
    parted = built(data_root, tmp_path, method, *keys, memory_mb=0.7 * whole.memory.text / MB)
    parts = parted.memory.parts
    assert parts in (2, 3) and parted.memory.text <= parted.memory.bound
    (loss, gradients, places), (again, others, fewer) = step(whole), step(parted)
    assert max(fewer) < 0.7 * max(places) and len(fewer) >= 2 * parts > len(places)
    assert again == pytest.approx(loss, rel=1e-6, abs=1e-6)
    theirs, ours = (torch.cat([gradient.flatten() for gradient in some]) for some in (gradients, others))
    assert theirs.norm() > 0 and (ours - theirs).norm() <= 1e-5 * theirs.norm()


def test_what_has_no_text_to_learn(data_root, tmp_path):
    for method in ("VPT", "ZeroshotCLIP"):
        trainer = built(data_root, tmp_path, method)
        assert trainer.memory.parts == trainer.memory.text == 0
        assert trainer.facts()["text_parts"] is None


def test_the_record_tells_the_number(data_root, tmp_path):
    assert train.main(arguments(data_root, tmp_path / "one", subsample="all")) == 0
    one = results(tmp_path / "one")
    assert one["text_parts"] == 1 and one["text_memory_mb"] >= LEAST_MB
    options = ["TRAINER.MEMORY_MB", 0.75]
    assert train.main(arguments(data_root, tmp_path / "some", subsample="all", options=options)) == 0
    some = results(tmp_path / "some")
    assert some["text_parts"] > 1 and some["text_memory_mb"] == 0.75
    assert train.main(arguments(data_root, tmp_path / "one", subsample="all", options=options)) == 0  # skipped
    assert results(tmp_path / "one") == one


def test_too_little_for_one_prompt(data_root, tmp_path, capsys):
    line = arguments(data_root, tmp_path, options=["TRAINER.MEMORY_MB", 0.01])
    assert train.main(line) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert "TRAINER.MEMORY_MB is 0.01, and one prompt of 8 tokens takes" in sentence and "set it higher" in sentence


# --- what the text encoder gets --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("free", "total", "others", "gib"),
    [
        (40, 80, 0, 16),  # 24, less than half of all
        (79, 80, 0, 32),  # half of all
        (79, 80, 40, 16),  # 23.4
        (4, 80, 0, 2),
        (1, 80, 0, 1),  # never less
        (0, 80, 9, 1),
    ],
)
def test_what_there_is_room_for(monkeypatch, free, total, others, gib):
    monkeypatch.setattr(memory, "memory_of", lambda device: (free * 2**30, total * 2**30))
    assert text_memory(0, CPU, others * 2**30) == gib * 2**30
    assert text_memory(300, CPU, others * 2**30) == 300 * MB


def test_images_beside_it(data_root, tmp_path):
    """A learned image encoder keeps what backward needs of a batch; a frozen one works on a block at a time."""
    frozen, learned = (built(data_root, tmp_path, method) for method in ("CoOp", "IVLP"))
    visual = frozen.model.clip.visual
    layers, tokens = visual.transformer.layers, len(visual.positional_embedding)
    assert frozen.memory.images == 4 * activations(visual.transformer, tokens, torch.float32, learns=False)
    assert learned.memory.images == (1 + layers) * frozen.memory.images


def test_this_machine():
    free, total = memory_of(CPU)
    assert 0 < free <= total and total > 2**28
    free, total = of_machine()
    assert 0 < free < total


def group(folder, most, used, droppable, names=memory.NAMES):
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in zip(names, (most, used), strict=False):
        (folder / name).write_text(f"{value}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{names[2]} {droppable}\n")


def test_control_groups(tmp_path):
    """Of both forms; what a job inside a container's group may have is the least of all around it."""
    root, process = tmp_path / "cgroup", tmp_path / "own"
    group(root / "pod", 1000, 700, 100)
    group(root / "pod" / "job", "max", 300, 0)
    group(root / "memory" / "old", 5000, 50, 20, memory.OLD_NAMES)
    process.write_text("4:memory:/old\n1:cpu:/other\n0::/pod/job\n")
    assert limits(process, root) == [(5000, 30), (1000, 600)]
    assert limits(tmp_path / "none", root) == []


# --- what is said ----------------------------------------------------------------------------------------------------


def test_what_a_run_says_before_its_first_step(data_root, tmp_path, capsys):
    trainer = built(data_root, tmp_path, "CoOp", memory_mb=0.75)
    trainer.announce()
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2] == "5 classes, 20 training images, 3 epochs of 5 steps"
    assert lines[-1].startswith("A step's activations take about ")
    assert f"5 prompts of {trainer.memory.length} tokens in {trainer.memory.parts} parts" in lines[-1]
    assert "(TRAINER.MEMORY_MB 1)" in lines[-1] and "Warning" not in lines[-1]
    built(data_root, tmp_path, "CoOp").announce()
    assert "tokens at once (TRAINER.MEMORY_MB auto, " in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize(
    ("method", "keys"),
    [
        ("CoOp", "TRAINER.MEMORY_MB"),
        ("IVLP", "TRAINER.MEMORY_MB or DATALOADER.TRAIN_X.BATCH_SIZE"),
        ("VPT", "DATALOADER.TRAIN_X.BATCH_SIZE"),
    ],
)
def test_what_will_not_fit(data_root, tmp_path, monkeypatch, capsys, method, keys):
    trainer = built(data_root, tmp_path, method)
    monkeypatch.setattr(memory, "memory_of", lambda device: (0.1 * MB, 1000 * MB))
    trainer.announce()
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Warning")]
    assert len(said) == 2
    assert "A training step takes about" in said[0] and said[0].endswith(f"and 0 MiB are free: lower {keys}.")
    assert "A batch of test images takes about" in said[1] and said[1].endswith("lower DATALOADER.TEST.BATCH_SIZE.")


def test_spotlighters_fit(data_root, tmp_path):
    """The tokens of all shots, of which a drop leaves fewer."""
    of = lambda *keys: built(data_root, tmp_path, "Spotlighter", *keys).needs()[-1]  # noqa: E731
    whole, dropped = of(), of("SPOTLIGHTER.KEEP", 0.5)
    assert whole.what == "Spotlighter's fit" and whole.keys == "DATASET.NUM_SHOTS"
    assert whole.size == 1.4 * 4 * 20 * 64 * 128 and dropped.size == whole.size / 2
