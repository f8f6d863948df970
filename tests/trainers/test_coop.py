"""CoOp (../trainers/coop.py): its context's shapes and first values, what a step moves, checkpoints of its authors."""

import pytest
import torch

import clip
import train
from clip.simple_tokenizer import SimpleTokenizer
from tests.helpers import arguments, results
from tests.trainers.by_hand import built, moved, write_checkpoint


def line(root, output, *options, **flags):
    return arguments(root, output, "CoOp", options=[*options, "OPTIM.MAX_EPOCH", 1], **flags)


def option(name, value):
    return [f"TRAINER.COOP.{name}", value]


@pytest.mark.parametrize(("own", "shape"), [(False, (5, 128)), (True, (3, 5, 128))])
def test_a_random_context(data_root, tmp_path, own, shape):
    options = [*option("CTX_INIT", ""), *option("N_CTX", 5), *option("CSC", own)]
    learner = built(line(data_root, tmp_path, *options)).model.prompt_learner
    assert {name: tuple(value.shape) for name, value in learner.state_dict().items()} == {"ctx": shape}
    assert learner.ctx.std().item() == pytest.approx(0.02, rel=0.2)


@pytest.mark.parametrize("own", [False, True])
def test_a_context_of_words(data_root, tmp_path, own):
    """It starts as the words' embeddings, for each class if it is class-specific; N_CTX does not count then."""
    options = [*option("CTX_INIT", "a photo of a"), *option("N_CTX", 7), *option("CSC", own)]
    model = built(line(data_root, tmp_path, *options)).model
    words = model.clip.token_embedding.weight[SimpleTokenizer().encode("a photo of a")]  # (4, D)
    assert torch.equal(model.prompt_learner.ctx, words.expand(3, -1, -1) if own else words)


def test_the_words_of_clip_give_clips_own_texts(data_root, tmp_path):
    model = built(line(data_root, tmp_path, *option("CTX_INIT", "a photo of a"))).model
    texts = clip.tokenize([f"a photo of a {name}." for name in ("red", "green", "blue")])
    expected = torch.nn.functional.normalize(model.clip.encode_text(texts), dim=-1)
    torch.testing.assert_close(model.text_features(), expected, atol=1e-6, rtol=0)


def test_a_run_learns_the_context_alone(data_root, tmp_path):
    assert train.main(line(data_root, tmp_path, *option("CTX_INIT", ""), *option("N_CTX", 3))) == 0
    assert results(tmp_path)["trainable_parameters"] == 3 * 128
    saved = torch.load(tmp_path / "prompt_learner/model.pth.tar-1", weights_only=True)["state_dict"]
    assert list(saved) == ["ctx"]


@torch.no_grad()
def test_a_published_checkpoint(data_root, tmp_path):
    """The authors' holds buffers of its own classes beside the context; they are left out, other names are not."""
    argv, images = line(data_root, tmp_path), torch.randn(2, 3, 64, 64)
    source, trainer = built(argv), built(argv)
    learner = moved(source.model.prompt_learner)
    theirs = {"ctx": learner.ctx, "token_prefix": torch.zeros(9, 1, 128), "token_suffix": torch.zeros(9, 60, 128)}
    write_checkpoint(tmp_path / "theirs", "prompt_learner", theirs)
    trainer.load_model(str(tmp_path / "theirs"), epoch=5)
    assert torch.equal(trainer.model(images), source.model(images))
    write_checkpoint(tmp_path / "other", "prompt_learner", theirs | {"meta_net": torch.zeros(1)})
    with pytest.raises(clip.InputError, match="meta_net.*another method"):
        trainer.load_model(str(tmp_path / "other"), epoch=5)


def test_a_run_goes_on_from_a_published_checkpoint(data_root, tmp_path):
    context = torch.full((4, 128), 0.01)
    theirs = {"ctx": context, "token_prefix": torch.zeros(9, 1, 128), "token_suffix": torch.zeros(9, 60, 128)}
    write_checkpoint(tmp_path / "theirs", "prompt_learner", theirs)
    run = arguments(data_root, tmp_path / "on", "CoOp", options=["OPTIM.MAX_EPOCH", 6], resume=tmp_path / "theirs")
    assert train.main(run) == 0
    saved = torch.load(tmp_path / "on/prompt_learner/model.pth.tar-6", weights_only=True)["state_dict"]
    assert list(saved) == ["ctx"] and 0 < (saved["ctx"] - context).abs().max() < 0.1
    assert results(tmp_path / "on")["resumed"]["epoch"] == 5


def test_contexts_of_classes_do_not_fit_other_numbers_of_classes(data_root, tmp_path, capsys):
    """A checkpoint of the authors does not say of which classes they are."""
    own = option("CSC", True)
    write_checkpoint(tmp_path / "base", "prompt_learner", {"ctx": torch.zeros(3, 4, 128)})
    flags = {"subsample": "new", "model_dir": tmp_path / "base", "load_epoch": 5, "eval_only": True}
    assert train.main(line(data_root, tmp_path / "new", *own, **flags)) == 2
    assert "with another number of classes" in capsys.readouterr().err
