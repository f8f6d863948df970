"""Edits (../clip/edits.py) in the loop over the blocks (../clip/vit.py), against plain tensor code."""

import math

import pytest
import torch
import torch.nn.functional as F

import clip
from clip import Edit, InputError
from clip.positions import interpolated
from clip.vit import ResidualAttentionBlock
from tests.clip.diary import Diary


def test_hooks_in_order(small):
    diary = Diary()
    small.encode_image(torch.randn(2, 3, 32, 32), edits=(diary,))
    assert diary.calls == [("embed", 17), ("before", 0, 17), ("after", 0, 17), ("before", 1, 17), ("after", 1, 17)]
    assert diary.rows == {0: None, 1: None}  # attention is not computed unasked
    diary = Diary()
    small.encode_text(clip.tokenize("a cat."), edits=(diary,))
    assert diary.calls[0] == ("embed", 5)


def test_an_edit_sees_the_images_before_their_tokens(small):
    """As the encoder takes them, in its precision; a text has none."""
    calls = []

    class Sees(Edit):
        def see(self, images):
            calls.append(images)

        def embed(self, x):
            calls.append("tokens")
            return x

    images = torch.randn(2, 3, 32, 32)
    small.encode_image(images, edits=(Sees(),))
    assert torch.equal(calls[0], images) and calls[1:] == ["tokens"]
    small.encode_text(clip.tokenize("a cat."), edits=(Sees(),))
    assert calls[2:] == ["tokens"]


def test_edits_that_change_nothing_change_nothing(small):
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        plain = small.encode_image(images)
        assert torch.equal(plain, small.encode_image(images, edits=(Edit(),)))
        read = small.encode_image(images, edits=(Edit(), Diary(attention_at=(0, 1))))
        feature, patches = small.encode_image(images, tokens=True)
    torch.testing.assert_close(read, plain)  # who reads all tokens has the last block compute them all
    torch.testing.assert_close(feature, plain)
    assert patches.shape == (2, 16, 32)


def test_dropping_tokens(small):
    images = torch.randn(2, 3, 32, 32)
    diary = Diary(keep=5, after=0)
    _, patches = small.encode_image(images, edits=(diary,), tokens=True)
    assert patches.shape == (2, 4, 32) and diary.calls[-1] == ("after", 1, 5)
    with torch.no_grad():  # after the last block, what is dropped cannot change what is kept
        _, whole = small.encode_image(images, tokens=True)
        _, patches = small.encode_image(images, edits=(Diary(keep=5, after=1),), tokens=True)
    torch.testing.assert_close(patches, whole[:, :4])


def test_edits_change_what_the_blocks_see(small):
    """Deep prompts: two tokens are added at the end of an image, and replaced before the second block."""

    class DeepPrompts(Edit, torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.prompts = torch.nn.Parameter(torch.randn(2, 2, 128))

        def embed(self, x):
            return torch.cat([x, self.prompts[0].expand(len(x), -1, -1)], dim=1)

        def before_block(self, x, i):
            return x if i == 0 else torch.cat([x[:, :-2], self.prompts[i].expand(len(x), -1, -1)], dim=1)

    prompts, visual = DeepPrompts(), small.visual
    images = torch.randn(2, 3, 32, 32)
    feature, patches = visual(images, edits=(prompts,), tokens=True)
    x = visual.conv1(images).reshape(2, 128, 16).permute(0, 2, 1)
    x = torch.cat([visual.class_embedding.expand(2, 1, 128), x], dim=1) + visual.positional_embedding
    x = visual.ln_pre(torch.cat([x, prompts.prompts[0].expand(2, 2, 128)], dim=1))
    x, _ = visual.transformer.resblocks[0](x)
    x, _ = visual.transformer.resblocks[1](torch.cat([x[:, :17], prompts.prompts[1].expand(2, 2, 128)], dim=1))
    torch.testing.assert_close(feature, visual.ln_post(x[:, 0]) @ visual.proj, atol=1e-5, rtol=1e-5)
    assert patches.shape == (2, 16, 32)  # prompts are no patches
    feature.sum().backward()
    assert all(prompts.prompts.grad[i].abs().max() > 0 for i in range(2))


def test_class_attention_is_the_softmax_row(small):
    """One head after the other, one image after the other."""
    diary = Diary(attention_at=(1,))
    inputs = {}
    block = small.visual.transformer.resblocks[1]
    hook = block.ln_1.register_forward_hook(lambda module, args, out: inputs.update(x=out))
    with torch.no_grad():
        small.encode_image(torch.randn(2, 3, 32, 32), edits=(diary,))
        hook.remove()
        width, heads = block.attn.embed_dim, block.attn.num_heads
        weight, bias = block.attn.in_proj_weight, block.attn.in_proj_bias
        for b in range(2):
            q, k = (
                inputs["x"][b, 0] @ weight[:width].t() + bias[:width],
                inputs["x"][b] @ weight[width : 2 * width].t() + bias[width : 2 * width],
            )
            rows = []
            for h in range(heads):
                part = slice(h * width // heads, (h + 1) * width // heads)
                rows.append(torch.softmax(k[:, part] @ q[part] / math.sqrt(width // heads), 0))
            torch.testing.assert_close(diary.rows[1][b], torch.stack(rows).mean(0), atol=1e-6, rtol=0)
    assert diary.rows[0] is None


def test_attention_after_another_edit_changed_the_tokens_is_refused(small):
    with pytest.raises(clip.InputError, match="list it first"):
        small.encode_image(torch.randn(1, 3, 32, 32), edits=(Diary(keep=5), Diary(attention_at=(0,))))


def test_the_last_block_computes_what_is_wanted(small, monkeypatch):
    """The class token alone, unless patch tokens are asked for, or an edit reads them."""
    images, rows = torch.randn(2, 3, 32, 32), []
    attend = F.scaled_dot_product_attention
    monkeypatch.setattr(
        F, "scaled_dot_product_attention", lambda q, *a, **kw: rows.append(q.shape[2]) or attend(q, *a, **kw)
    )
    for edits, tokens, last in (((), False, 1), ((), True, 17), ((Diary(),), False, 17)):
        rows.clear()
        small.encode_image(images, edits=edits, tokens=tokens)
        assert rows[-1] == last and set(rows[:-1]) == {17}


def test_an_edit_that_ends_the_encoder(small, monkeypatch):
    class Ends(Edit):
        def ends_before(self, i):
            return i == 1

    blocks = []
    forward = ResidualAttentionBlock.forward
    monkeypatch.setattr(
        ResidualAttentionBlock, "forward", lambda self, *a, **kw: blocks.append(self) or forward(self, *a, **kw)
    )
    small.encode_image(torch.randn(2, 3, 32, 32), edits=(Ends(),))
    assert blocks == [small.visual.transformer.resblocks[0]]


def test_images_of_another_size(small):
    """An edit that says so lets them in, with positions of its own."""
    table = interpolated(small.visual.positional_embedding.detach(), 2)

    class Smaller(Edit):
        size = 16

        def positions(self, whole):
            return table

    images = torch.randn(2, 3, 16, 16)
    with pytest.raises(InputError, match="takes"):
        small.encode_image(images)
    assert small.encode_image(images, edits=(Smaller(),)).shape == small.encode_image(torch.randn(2, 3, 32, 32)).shape
