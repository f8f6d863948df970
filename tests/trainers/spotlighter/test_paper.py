"""The paper's form (trainers/spotlighter/paper.py): its equations by hand, and runs of it."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

import train
from dassl.engine import TrainerX, build_trainer
from dassl.evaluation import Classification
from one_run.rebuild import rebuild
from tests.helpers import REPOSITORY, results
from tests.trainers.spotlighter.runs import EPOCHS, learned, one_sentence
from tests.trainers.spotlighter.runs import line as line_of
from tests.trainers.spotlighter.test_over_host import OTHER_PROCESS
from tests.trainers.spotlighter.world import NAMES, SCALE, C, D, K, unit
from trainers.spotlighter.classes import Classes
from trainers.spotlighter.head import Selection
from trainers.spotlighter.look import look
from trainers.spotlighter.paper import PaperHead

CONFIG = REPOSITORY / "configs/trainers/Spotlighter/embedded_paper.yaml"
FUSE, MOMENTUM = 0.3, 0.8
IN_LEVEL = (0, 1), (2, 3, 4)  # ranks


@pytest.fixture
def paper(world):
    """A head whose memory is unlike its texts."""
    _, _, z, _ = world
    torch.manual_seed(0)
    head = PaperHead(logit_scale=SCALE, kept=5, prototypes=K, levels=2, full=D)
    head.begin(z, NAMES, FUSE, MOMENTUM)
    head.prototypes = unit(head.prototypes + 0.5 * torch.randn(C, K, D))
    return head


def classes_of(head, t):
    return Classes(unit(t), head.prototypes)


# --- equations -------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_selection_by_hand(paper, world):
    """Tokens as they are: nothing is centred. Ranks 1 and 2 are level 1."""
    shots, t, _, _ = world
    why = paper.explain(shots.f, shots.v, classes_of(paper, t), paper.image_mean, paper.token_mean)
    for b in (0, 7):
        p = (SCALE * t @ shots.f[b]).softmax(dim=0)  # (C,)
        sample = torch.stack([sum(p[c] * v @ t[c] for c in range(C)) for v in shots.v[b]])
        semantic = torch.stack([sum(p[c] * (paper.prototypes[c] @ v).max() for c in range(C)) for v in shots.v[b]])
        both = sum((x - x.mean()) / (x.std() + 1e-4) for x in (sample, semantic))
        torch.testing.assert_close(why.activation[b], both, atol=1e-3, rtol=1e-3)
        order = both.argsort(descending=True)[:5]
        assert torch.equal(why.selection.index[b], order)
        torch.testing.assert_close(why.selection.tokens[b], shots.v[b, order])
    assert why.level.tolist() == [1, 1, 2, 2, 2]


@torch.no_grad()
def test_three_logits_by_hand(paper, world):
    shots, t, _, _ = world
    classes, mapping = classes_of(paper, t), paper.mapping
    chosen = paper.explain(shots.f, shots.v, classes, paper.image_mean, paper.token_mean).selection
    found = paper.three_logits(shots.f, chosen, classes, paper.bank)
    assert found.shape == (len(shots.f), 3, C)
    texts = []
    for c in range(C):
        each = [paper.prototypes[c, k] + mapping.text(torch.cat([paper.prototypes[c, k], t[c]])) for k in range(K)]
        texts.append([unit(sum(each[k] for k in ranks)) for ranks in IN_LEVEL])
    for b in (0, 13):
        p = (SCALE * t @ shots.f[b]).softmax(dim=0)
        believed = sum(p[c] * paper.prototypes[c] for c in range(C))  # (K, d)
        image = []
        for ranks in map(list, IN_LEVEL):
            query, tokens = believed[None, ranks], chosen.tokens[b : b + 1, ranks]
            asked, _ = mapping.cross(query, tokens, tokens)
            representative = mapping.layer(query + asked)[0]
            weights = chosen.activation[b, ranks].exp()
            image.append(unit(weights @ representative))
        u = unit((1 - FUSE) * shots.f[b] + FUSE * unit(image[0] + image[1]))
        for c in range(C):
            fused = unit((1 - FUSE) * t[c] + FUSE * unit(texts[c][0] + texts[c][1]))
            expected = SCALE * torch.stack([image[0] @ texts[c][0], image[1] @ texts[c][1], u @ fused])
            torch.testing.assert_close(found[b, :, c], expected, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(paper(shots.f, shots.v, classes), found[:, 2])  # the same weight in a test


@torch.no_grad()
def test_without_a_share_it_is_the_host(paper, world):
    """Also where the host's texts are no unit rows."""
    shots, t, z, _ = world
    t = t * torch.linspace(0.8, 1.2, C)[:, None]
    before = paper(shots.f, shots.v, paper.describe(t, z, NAMES))
    paper.mapping.beta.zero_()
    host = SCALE * shots.f @ t.t()
    torch.testing.assert_close(paper(shots.f, shots.v, paper.describe(t, z, NAMES)), host, atol=1e-4, rtol=1e-4)
    assert (before - host).abs().max() > 0.1


def test_the_memory_by_hand(paper):
    """Each rank of each class by itself; a class without an image keeps what it has."""
    g = torch.Generator().manual_seed(1)
    y, before = torch.tensor([2, 0, 2, 2, 0]), paper.prototypes.clone()
    chosen = Selection(4 * torch.randn(5, K, generator=g), torch.empty(0), unit(torch.randn(5, K, D, generator=g)))
    paper.write(chosen, y)
    for c in range(C):
        mine = (y == c).nonzero()[:, 0].tolist()
        for r in range(K):
            expected = before[c, r]
            if mine:
                total = sum(chosen.activation[b, r].exp() for b in mine)
                mean = sum(chosen.activation[b, r].exp() / total * chosen.tokens[b, r] for b in mine)
                expected = unit(MOMENTUM * before[c, r] + (1 - MOMENTUM) * mean)
            torch.testing.assert_close(paper.prototypes[c, r], expected)
    assert torch.equal(paper.prototypes[1], before[1]) and torch.equal(paper.prototypes[3], before[3])


def test_the_loss_by_hand(paper, world):
    """It is taken before the memory is written, and its gradient reaches the host's texts and the mapping modules alone."""
    shots, t, _, _ = world
    t, before = t.clone().requires_grad_(), paper.prototypes.clone()
    classes = Classes(t, before)
    chosen = paper.explain(shots.f, shots.v, classes, paper.image_mean, paper.token_mean).selection
    one, two, both = paper.three_logits(shots.f, chosen, classes, paper.bank).unbind(dim=1)
    expected = F.cross_entropy(both, shots.y) + 0.5 * (F.cross_entropy(one, shots.y) + F.cross_entropy(two, shots.y))
    loss = paper.loss(shots.f, shots.v, shots.y, t, levels=0.5)
    torch.testing.assert_close(loss, expected)
    assert (paper.prototypes - before).abs().max() > 0.01
    loss.backward()
    moved = {name for name, p in paper.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    assert moved == {name for name, _ in paper.named_parameters() if name.startswith("mapping.")} - {"mapping.beta"}
    assert t.grad.abs().max() > 0


def test_how_many_numbers_it_trains():
    """At ViT-B/16, whose joint width is 512: 3.7 million."""
    head = PaperHead(logit_scale=SCALE, kept=5, prototypes=K, levels=2, full=512)
    attention, norm = 4 * 512 * 512 + 4 * 512, 2 * 512
    layer = attention + (512 * 1024 + 1024) + (1024 * 512 + 512) + 2 * norm
    expected = attention + layer + (1024 * 512 + 512)
    assert sum(p.numel() for p in head.parameters() if p.requires_grad) == expected == 3_678_208


@torch.no_grad()
def test_classes_never_seen_are_carried_over(paper, world):
    """By text similarity alone, each slot by itself."""
    _, t, _, new = world
    paper.text = t
    found = paper.describe(new, new, ["x", "y", "z"])
    for n in range(3):
        near = (t @ new[n] / 0.1).softmax(dim=0)
        for k in range(K):
            residual = sum(near[c] * (paper.prototypes[c, k] - t[c]) for c in range(C))
            torch.testing.assert_close(found.prototypes[n, k], unit(new[n] + residual))
    assert torch.equal(paper.describe(t, t, NAMES).prototypes, paper.prototypes)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_what_comes_in_half_precision(paper, world, dtype):
    shots, t, _, _ = world
    halves = [x.to(dtype).float() for x in (shots.f, shots.v)]
    assert paper.loss(*halves, shots.y, t, levels=1.0).isfinite() and paper.prototypes.isfinite().all()


# --- runs ------------------------------------------------------------------------------------------------------------


def line(data_root, output, **keys) -> list[str]:
    return line_of(data_root, output, **{"config_file": CONFIG, **keys})


@pytest.fixture(scope="module")
def run(data_root, tmp_path_factory):
    """A finished run, its test logits beside it."""
    torch.set_num_threads(1)
    output = tmp_path_factory.mktemp("paper") / "run"
    logits, process = [], Classification.process
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Classification, "process", lambda self, mo, gt: logits.append(mo) or process(self, mo, gt))
        assert train.main(line(data_root, output)) == 0
    torch.save(torch.cat(logits), output.parent / "logits.pt")
    return output


def test_the_count_is_said(data_root, tmp_path, capsys):
    """And the modules, the memory and the host's context have moved."""
    assert train.main(line(data_root, tmp_path)) == 0
    count = 14 * 128**2 + 16 * 128
    log = capsys.readouterr().out
    assert f"Spotlighter over CoOp: {count:,} trainable numbers beside the host's prompts" in log
    assert "loss_head" in log and "keeps its initial" not in log
    record = results(tmp_path)
    assert record["extra_trainable_parameters"] == count and record["trainable_parameters"] == count + 4 * 128
    assert train.main(line(data_root, tmp_path / "one", options=["OPTIM.MAX_EPOCH", 1])) == 0
    then, now = learned(tmp_path / "one", "spotlighter", epoch=1), learned(tmp_path, "spotlighter")
    same = {name for name in now if torch.is_tensor(now[name]) and torch.equal(now[name], then[name])}
    assert not [name for name in same if name.startswith(("mapping.l", "mapping.c", "mapping.t", "proto"))]
    assert {"mapping.beta", "scalars.tau_b", "scalars.theta"} <= same and now["mapping.beta"] == torch.tensor(0.1)
    assert now["prototypes"].shape == (3, 5, 128) and now["text"].shape == (3, 128)


def test_another_process_gives_the_same_logits(run, data_root, tmp_path):
    test = line(data_root, tmp_path / "test", model_dir=run, eval_only=True)
    command = [sys.executable, "-c", OTHER_PROCESS, str(tmp_path / "logits.pt"), *test]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert torch.equal(torch.load(tmp_path / "logits.pt"), torch.load(run.parent / "logits.pt"))


def test_a_run_that_broke_off_goes_on(run, data_root, tmp_path, monkeypatch):
    def stop(self):
        if self.epoch == EPOCHS - 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainerX, "before_epoch", stop)
        assert train.main(line(data_root, tmp_path)) == 130
    assert train.main(line(data_root, tmp_path)) == 0
    for name in ("prompt_learner", "spotlighter"):
        whole, resumed = learned(run, name), learned(tmp_path, name)
        assert whole.keys() == resumed.keys()
        assert all(torch.equal(whole[key], resumed[key]) for key in whole if torch.is_tensor(whole[key]))


@torch.no_grad()
def test_an_images_logits_are_its_own(run, data_root, tmp_path):
    """Among classes never seen."""
    cfg = train.build_config(train.parse_arguments(line(data_root, tmp_path, subsample="new")))
    trainer = build_trainer(cfg)
    trainer.load_model(str(run), epoch=EPOCHS)
    trainer.set_model_mode("eval")
    images = next(iter(trainer.test_loader))["img"]
    logits = trainer.model_inference(images)
    assert logits.shape == (8, 2) and logits.std() > 0.1
    assert (logits - trainer.model(images)).abs().max() > 0.1  # the host's
    for b in (0, 5):
        others = torch.randn(images.shape)
        others[b] = images[b]
        torch.testing.assert_close(trainer.model_inference(others)[b], logits[b], atol=1e-4, rtol=0)
        torch.testing.assert_close(trainer.model_inference(images[b : b + 1])[0], logits[b], atol=1e-4, rtol=0)


@torch.no_grad()
def test_what_it_looks_at_is_what_it_answers_by(run):
    trainer = rebuild(run)
    images = next(iter(trainer.test_loader))["img"]
    seen = look(trainer, images)
    assert seen.level.tolist() == [1, 1, 2, 2, 2] and seen.selected.shape == (len(images), 5)
    torch.testing.assert_close(seen.probabilities, trainer.model_inference(images).softmax(dim=1))
    torch.testing.assert_close(trainer.head.text, trainer.model.text_features())  # which new classes are compared with


def test_in_bf16_with_tokens_dropped_over_a_host_of_deep_prompts(data_root, tmp_path):
    host = REPOSITORY / "configs/trainers/Spotlighter/embedded_maple.yaml"
    options = ["TRAINER.MAPLE.PREC", "bf16", "OPTIM.MAX_EPOCH", 1, "TRAINER.SPOTLIGHTER.LOSS.LEVELS", 0.02]
    keys = {"config_file": host, "HEAD": "paper", "JOINT": True, "KEEP": 0.5}
    assert train.main(line(data_root, tmp_path / "run", options=options, **keys)) == 0
    assert all(x.isfinite().all() for x in learned(tmp_path / "run", "spotlighter", 1).values() if torch.is_tensor(x))
    new = {"model_dir": tmp_path / "run", "subsample": "new", "eval_only": True}
    assert train.main(line(data_root, tmp_path / "new", options=options, **keys, **new)) == 0


def test_one_batch_may_hold_all_shots(data_root, tmp_path):
    assert train.main(line(data_root, tmp_path, options=["DATALOADER.TRAIN_X.BATCH_SIZE", 12])) == 0


# --- what cannot be --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"JOINT": False}, "HEAD paper is trained in step with its host: set JOINT to True"),
        ({"K": 4}, "K and R must be one number"),
        ({"K": 2, "R": 2}, "K and R must be one number"),
        ({"LEVELS": 1}, "has two levels: set LEVELS to 2"),
        ({"ZOOM": 1}, "has no second look: set ZOOM to 0"),
        ({"FUSE": 1.5}, "FUSE is 1.5"),
        ({"MOMENTUM": -1}, "MOMENTUM is -1"),
    ],
)
def test_what_is_refused(data_root, tmp_path, capsys, keys, says):
    assert train.main(line(data_root, tmp_path, **keys)) == 2
    assert says in one_sentence(capsys)
    assert not list(tmp_path.rglob("*.tar*"))


@pytest.mark.parametrize(("key", "value"), [("FUSE", 0.2), ("HEAD", "lite")])
def test_another_setting_than_in_training(run, data_root, tmp_path, capsys, key, value):
    test = line(data_root, tmp_path, model_dir=run, eval_only=True, **{key: value})
    assert train.main(test) == 2
    one_sentence(capsys)
