"""IVLP (../trainers/ivlp.py): runs with prompts in both encoders and in the text encoder alone; its authors' checkpoints."""

import pytest

from tests.trainers.deep_runs import DeepRun, check_published, check_tests, check_training

BOTH = DeepRun(
    "IVLP",
    "VLPromptLearner",
    {
        "ctx": (2, 128),
        **{f"text.{i}": (2, 128) for i in range(3)},
        **{f"visual.{i}": (3, 128) for i in range(4)},
    },
    options=("TRAINER.IVLP.N_CTX_VISION", 3),
)
LANGUAGE = DeepRun(
    "IVLP",
    "VLPromptLearner",
    {"ctx": (2, 128), "text.0": (2, 128)},
    options=("TRAINER.IVLP.PROMPT_DEPTH_VISION", 0, "TRAINER.IVLP.PROMPT_DEPTH_TEXT", 2),
)
STEPS = 2 * 3


@pytest.mark.parametrize(("run", "epochs"), [(BOTH, 2), (LANGUAGE, 1)], ids=["both", "language"])
def test_a_run(data_root, tmp_path, run, epochs, monkeypatch):
    """Texts change with each step; without visual prompts each of the 12 images is encoded once for all epochs."""
    texts, images = [3] * (STEPS + 1), epochs * 12 + 12
    check_training(run, data_root, tmp_path / "base", monkeypatch, texts=texts, images=images)
    if run is BOTH:
        check_tests(run, data_root, tmp_path / "base")


@pytest.mark.parametrize("run", [BOTH, LANGUAGE], ids=["both", "language"])
def test_a_published_checkpoint(data_root, tmp_path, run):
    check_published(run, data_root, tmp_path)
