"""ProGrad (../trainers/prograd.py): eq. 4 in plain Python, the gradient of a step, the first context, CoOp at 0."""

import pytest
import torch
import torch.nn.functional as F

import clip
import train
from clip.simple_tokenizer import SimpleTokenizer
from dassl.engine import build_trainer
from tests.helpers import arguments
from trainers.prograd import without_conflict
from trainers.shared.clip_trainer import ClipTrainer
from trainers.shared.prompts import TEMPLATES


def built(data_root, output, options=()):
    cfg = train.build_config(train.parse_arguments(arguments(data_root, output, "ProGrad", options=options)))
    return build_trainer(cfg)


def projected(gradient: list, general: list, strength: float) -> list:
    """Eq. 4 of the paper on lists of numbers, with the factor that its code has."""
    dot = sum(a * b for a, b in zip(gradient, general, strict=True))
    if dot >= 0:
        return gradient
    square = sum(b * b for b in general)
    return [a - strength * dot / square * b for a, b in zip(gradient, general, strict=True)]


@pytest.mark.parametrize("strength", [1.0, 0.4, 0.0])
@pytest.mark.parametrize("opposed", [True, False])
def test_equation_4(strength, opposed):
    torch.manual_seed(0)
    gradient, general = torch.randn(2, 3), torch.randn(2, 3)
    if ((gradient * general).sum() < 0) != opposed:
        general = -general
    ours = without_conflict(gradient, general, strength)
    expected = projected(gradient.flatten().tolist(), general.flatten().tolist(), strength)
    assert ours.flatten().tolist() == pytest.approx(expected, abs=1e-6)
    assert torch.equal(ours, gradient) == (not opposed or strength == 0)
    if opposed and strength == 1:
        assert (ours * general).sum().abs() < 1e-6  # nothing is left of it


def test_without_a_general_gradient():
    gradient = torch.randn(2, 3)
    assert torch.equal(without_conflict(gradient, torch.zeros(2, 3), 1.0), gradient)


@pytest.mark.parametrize("opposed", [True, False])
@pytest.mark.parametrize(("strength", "temperature"), [(1.0, 1.0), (0.6, 3.0)])
def test_a_step(data_root, tmp_path, opposed, strength, temperature):
    """The gradient that a step leaves on the context, from those of cross-entropy and KL divergence apart."""
    options = ["TRAINER.PROGRAD.LAMBDA", strength, "TRAINER.PROGRAD.T", temperature, "OPTIM.WEIGHT_DECAY", 0.0]
    trainer = built(data_root, tmp_path, options)
    model, learner = trainer.model.clip, trainer.model.prompt_learner
    trainer.is_transform_fixed = lambda: False  # these are not the training images
    trainer.set_model_mode("train")
    trainer.batch_idx, trainer.num_batches = 0, 2
    torch.manual_seed(0)
    with torch.no_grad():
        learner.ctx += 0.02 * torch.randn_like(learner.ctx)
    images = torch.randn(4, 3, 64, 64)

    f = F.normalize(model.encode_image(images), dim=-1)
    learned = F.normalize(model.encode_prompts(*learner()), dim=-1)
    written = [f"a photo of a {name}." for name in ("red", "green", "blue")]
    fixed = F.normalize(torch.cat([model.encode_text(clip.tokenize(text)) for text in written]), dim=-1)
    logits, teacher = (model.logit_scale.exp() * f @ text.t() for text in (learned, fixed))
    # Labels that zero-shot CLIP objects to: the classes that training is to raise, it has raised too much already.
    excess = (logits / temperature).softmax(-1) - (teacher / temperature).softmax(-1)
    labels = (excess.argmax(-1) if opposed else excess.argmin(-1)).detach()
    p = (teacher / temperature).softmax(-1)
    entropy = -sum(logits[i].log_softmax(0)[labels[i]] for i in range(4)) / 4
    q = (logits / temperature).log_softmax(-1)
    divergence = temperature**2 * sum(p[i, c] * (p[i, c].log() - q[i, c]) for i in range(4) for c in range(3)) / 4
    ours, general = (torch.autograd.grad(part, learner.ctx, retain_graph=True)[0] for part in (entropy, divergence))
    assert ((ours * general).sum() < 0) == opposed
    expected = torch.tensor(projected(ours.flatten().tolist(), general.flatten().tolist(), strength)).view_as(ours)
    assert opposed == ((expected - ours).norm() > 0.05 * ours.norm()).item()  # it is seen

    shown = trainer.forward_backward({"img": images, "label": labels, "index": torch.arange(4)})
    torch.testing.assert_close(learner.ctx.grad, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())
    assert shown["loss"] == pytest.approx(entropy.item(), rel=1e-4)
    constant = temperature**2 * (p * p.log()).sum() / 4  # what is shown is the divergence less this
    assert shown["loss_kl"] == pytest.approx((divergence - constant).item(), rel=1e-4)


def test_at_lambda_0_from_a_random_context_it_is_coop(data_root, tmp_path):
    def learned(name, trainer, *options):
        assert train.main(arguments(data_root, tmp_path / name, trainer, options=options)) == 0
        path = tmp_path / name / "prompt_learner" / "model.pth.tar-3"
        return torch.load(path, weights_only=True)["state_dict"]["ctx"]

    random = ["TRAINER.PROGRAD.CTX_INIT", False, "TRAINER.PROGRAD.N_CTX", 5]
    coop = learned("coop", "CoOp", "TRAINER.COOP.CTX_INIT", "", "TRAINER.COOP.N_CTX", 5)
    assert torch.equal(learned("zero", "ProGrad", *random, "TRAINER.PROGRAD.LAMBDA", 0.0), coop)
    assert not torch.allclose(learned("much", "ProGrad", *random, "TRAINER.PROGRAD.LAMBDA", 50.0), coop, atol=1e-6)


@pytest.mark.parametrize(
    ("template", "words"),
    [(None, "a photo of a"), ("a type of pet, a photo of a {}.", "a type of pet, a photo of a")],
)
def test_first_context(data_root, tmp_path, monkeypatch, template, words):
    """Zeros, then the words before the class name, punctuation included."""
    if template is not None:
        monkeypatch.setitem(TEMPLATES["PROGRAD"], "Caltech101", template)
    trainer = built(data_root, tmp_path, ["TRAINER.PROGRAD.N_CTX", 12])
    ids = SimpleTokenizer().encode(words)
    context = trainer.model.prompt_learner.ctx
    assert context.shape == (12, 128) and context[: 12 - len(ids)].abs().sum() == 0
    assert torch.equal(context[12 - len(ids) :], trainer.model.clip.token_embedding(torch.tensor(ids)))
    written = F.normalize(trainer.model.clip.encode_text(clip.tokenize(f"{words} blue.")), dim=-1)
    torch.testing.assert_close(trainer.hand_written[2], written[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("template", ["{}.", "a {} photo.", "a photo of a {}, seen from afar."])
def test_a_prompt_that_gives_no_first_context(data_root, tmp_path, monkeypatch, capsys, template):
    monkeypatch.setitem(TEMPLATES["PROGRAD"], "Caltech101", template)
    assert train.main(arguments(data_root, tmp_path, "ProGrad")) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert f"{template!r} does not end with the class name" in sentence


def test_too_short_a_context(data_root, tmp_path, capsys):
    assert train.main(arguments(data_root, tmp_path, "ProGrad", options=["TRAINER.PROGRAD.N_CTX", 3])) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert "N_CTX is 3, and the words 'a photo of a' are 4 tokens" in sentence


def test_amp(data_root, tmp_path, monkeypatch):
    monkeypatch.setattr(ClipTrainer, "check_cfg", lambda self, cfg: None)  # which wants a GPU for it
    with pytest.raises(clip.InputError, match="PROGRAD.PREC is amp"):
        built(data_root, tmp_path, ["TRAINER.PROGRAD.PREC", "amp"])
