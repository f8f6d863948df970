"""Prompt building (../../../trainers/shared/prompts.py) against prompts put together by hand."""

import pytest
import torch
import torch.nn.functional as F
from yacs.config import CfgNode

import clip
from clip.simple_tokenizer import SimpleTokenizer
from trainers.clipfit import FitLearner
from trainers.shared.prompted_clip import PromptedCLIP
from trainers.shared.prompts import ContextLearner, ContextPrompts, initial_context, same_texts, zero_shot_text_features

NAMES = ["cat", "Boeing 747-400", "german_shorthaired_pointer"]


@pytest.fixture(scope="module")
def model():
    return with_room(77)


def with_room(places: int):
    torch.manual_seed(0)
    model = clip.model.CLIP(
        embed_dim=32, image_resolution=16, vision_layers=1, vision_width=64, vision_patch_size=8,
        context_length=places, vocab_size=49408, transformer_width=64, transformer_heads=1, transformer_layers=2,
    )  # fmt: skip
    return model.float().eval().requires_grad_(False)


def by_hand(model, context, name, position):
    """Token embeddings of one prompt: start, pieces in order, full stop, end."""
    embed = lambda ids: model.token_embedding(torch.tensor(ids, dtype=torch.long)).view(-1, context.shape[-1])  # noqa: E731
    encode = SimpleTokenizer().encode
    words, half = embed(encode(name.replace("_", " "))), len(context) // 2
    pieces = {
        "end": [context, words],
        "middle": [context[:half], words, context[half:]],
        "front": [words, context],
    }[position]
    return torch.cat([embed([49406]), *pieces, embed(encode(".")), embed([49407])])


@pytest.mark.parametrize("position", ["end", "middle", "front"])
@pytest.mark.parametrize("length", [1, 4, 5])
@pytest.mark.parametrize("own_context", [False, True])
def test_context_prompts(model, position, length, own_context):
    prompts = ContextPrompts(model, NAMES, length, position)
    context = torch.randn(len(NAMES), length, 64) if own_context else torch.randn(length, 64)
    embeddings = prompts(context)
    longest = 0
    for index, name in enumerate(NAMES):
        expected = by_hand(model, context[index] if own_context else context, name, position)
        torch.testing.assert_close(embeddings[index, : len(expected)], expected, rtol=0, atol=0)
        assert prompts.end[index] == len(expected) - 1
        longest = max(longest, len(expected))
    assert embeddings.shape[1] == longest  # not 77


@pytest.mark.parametrize("position", ["middle", "front"])
@pytest.mark.parametrize("name", ["c++", "c#", "dr.", "golf ii (1984)", "men's", "rock 'n'", "a&amp", "...", "what?"])
def test_a_name_that_ends_in_a_mark_is_whole_before_more_context(model, name, position):
    """Within "c++." the tokens are c, + and "+.", so that two tokens of a name would be "c+"."""
    prompts, context = ContextPrompts(model, ["cat", name], 4, position), torch.randn(4, 64)
    expected = by_hand(model, context, name, position)
    assert torch.equal(prompts(context)[1, : len(expected)], expected) and prompts.end[1] == len(expected) - 1


@pytest.mark.parametrize("name", ["c++", "dr.", "..."])
def test_at_the_end_the_full_stop_is_written_as_in_the_published_prompts(model, name):
    prompts, context = ContextPrompts(model, [name], 4), torch.randn(4, 64)
    ids = torch.tensor(SimpleTokenizer().encode(f"{name}."))
    assert torch.equal(prompts(context)[0, 5:-1], model.token_embedding(ids))


def test_initial_context_is_the_hand_written_prompt(model):
    """From "a photo of a", the first logits are those of "a photo of a {}."."""
    prompts = ContextPrompts(model, NAMES, 4)
    context = initial_context(model, "a photo of a")
    assert context.shape == (4, 64)
    features = F.normalize(model.encode_prompts(prompts(context), prompts.end), dim=-1)
    torch.testing.assert_close(features, zero_shot_text_features(model, NAMES, "a photo of a {}."), atol=1e-6, rtol=0)


def test_same_texts():
    """Within 1e-6, in groups; a text that is no number is like no other."""
    text = F.normalize(torch.randn(6, 512, generator=torch.manual_seed(0)), dim=-1)
    assert same_texts(text) == []
    text[3], text[4] = text[1], F.normalize(text[0] + 1e-5 * text[2], dim=-1)
    assert same_texts(text) == [[0, 4], [1, 3]]
    text[4], text[5] = F.normalize(text[0] + 1e-2 * text[2], dim=-1), torch.nan
    assert same_texts(text) == [[1, 3]]


def test_nothing_of_the_prompts_is_saved(model):
    assert not ContextPrompts(model, NAMES, 4).state_dict()


def test_a_class_whose_prompt_has_no_room(model):
    names = ["dog", "long " * 80]
    for build in (lambda: ContextPrompts(model, names, 4), lambda: zero_shot_text_features(model, names)):
        with pytest.raises(clip.InputError, match="prompt of the class 'long .*shorten the class name") as error:
            build()
        assert "truncate" not in str(error.value)
    with pytest.raises(clip.InputError, match="of the class 'dog'"):
        ContextPrompts(model, names, 80)
    with pytest.raises(clip.InputError, match="CTX_INIT 'word .*shorten it"):
        initial_context(model, "word " * 80)


@pytest.mark.parametrize("position", ["end", "middle", "front"])
def test_models_of_other_lengths(position):
    """Long-CLIP's 248 places, and few."""
    model, names = with_room(248), ["dog", "long " * 80 + "cat"]
    context = initial_context(model, "word " * 100)
    assert context.shape == (100, 64)
    embeddings = ContextPrompts(model, names, 100, position)(context)
    for name, embedded in zip(names, embeddings, strict=True):
        expected = by_hand(model, context, name, position)
        torch.testing.assert_close(embedded[: len(expected)], expected)
    tokens = clip.tokenize(f"a photo of a {names[1]}.", 248)
    text = zero_shot_text_features(model, names)
    torch.testing.assert_close(text[1:], F.normalize(model.encode_text(tokens), dim=-1))
    FitLearner(model, names, "a photo of a {}.")
    for build in (ContextPrompts, lambda model, names, _: zero_shot_text_features(model, names)):
        with pytest.raises(
            clip.InputError, match="of the class 'german .*, which takes 8 tokens: shorten the class name"
        ):
            build(with_room(8), ["german shorthaired pointer"], 4)


def test_unknown_position(model):
    with pytest.raises(clip.InputError, match="'last'.*end, middle, front"):
        ContextPrompts(model, NAMES, 4, "last")


@pytest.mark.parametrize(
    ("names", "position", "words", "shared"),
    [
        (["cat", "dog"], "end", None, 1 + 3),
        (["cat", "dog"], "end", "a photo of a", 1 + 4),  # the context stands in place of the first three
        (["cat", "dog"], "middle", None, 1 + 1),
        (["cat", "dog"], "front", None, 1),
        (["red cat", "red dog"], "end", None, 1 + 3 + 1),
        (["red cat", "red cat"], "end", None, 1 + 3 + 3),  # all but the end
    ],
)
def test_places_that_are_the_same_in_all_prompts(model, names, position, words, shared):
    prompts = ContextPrompts(model, names, 3, position, words)
    made = prompts(torch.randn(3, 64))  # (C, L, D)
    assert prompts.shared == shared
    assert torch.equal(made[:1, :shared].expand(2, -1, -1), made[:, :shared])
    assert names[0] == names[1] or not torch.equal(made[0, shared], made[1, shared])


def test_a_context_of_each_class_is_not_shared(model):
    class Own(ContextLearner):
        def forward(self):
            return super().forward()

    keys = CfgNode({"CTX_INIT": "", "N_CTX": 3, "CSC": False})
    assert ContextLearner(model, ["cat", "dog"], keys).shared == 4
    assert Own(model, ["cat", "dog"], keys).shared == 0  # whose prompts may be anything
    keys.CSC = True
    assert ContextLearner(model, ["cat", "dog"], keys).shared == 0


class Shifted(ContextPrompts):
    def forward(self, context):
        made = super().forward(context)
        return made + torch.arange(len(made))[:, None, None]


def changed_in_code(learner):
    learner.prompts.__class__ = Shifted


def changed_by_a_hook(learner):
    learner.prompts.register_forward_hook(lambda _, x, made: made + torch.arange(len(made))[:, None, None])


def changed_on_the_instance(learner):
    forward = learner.forward
    learner.forward = lambda: (forward()[0] + torch.arange(2)[:, None, None], learner.prompts.end)


@pytest.mark.parametrize("change", [changed_in_code, changed_by_a_hook, changed_on_the_instance])
def test_prompts_that_another_makes_share_nothing(model, change):
    learner = ContextLearner(model, ["cat", "dog"], CfgNode({"CTX_INIT": "", "N_CTX": 3}))
    change(learner)
    assert learner.shared == 0


def test_prompts_that_differ_are_encoded_whole(model):
    """Whatever has changed them."""
    learner = ContextLearner(model, ["cat", "dog"], CfgNode({"CTX_INIT": "", "N_CTX": 3}))
    learner.prompts.embeddings[1, 0] += 1
    prompts, end = learner()
    expected = F.normalize(model.encode_prompts(prompts, end), dim=-1)
    assert learner.shared == 4
    torch.testing.assert_close(PromptedCLIP(model, learner).text_features(), expected)
