"""The tokenizer (../clip/simple_tokenizer.py, ../clip/clip.py) against open_clip's."""

import random
import unicodedata

import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer as Reference

import clip
from clip.simple_tokenizer import SimpleTokenizer

CORPUS = [
    "a photo of a cat.", "", " ", "Boeing 747-400", "2012 Ferrari 458 Italia", "don't, we'll, I'm, they've", "ALL CAPS and MiXeD",
    "éàüñøß Ångström naïve café", "e\u0301 decomposed", "日本語のテキスト", "Привет, мир", "العربية", "😀😃 emoji 👩‍👩‍👧 flags 🇩🇪", "&amp;lt;b&amp;gt; &quot;x&quot; &eacute;",
    "tabs\tand\nnewlines\r\n  and   spaces", "zero\u200bwidth", "control\x07char\x00", "schÃ¶n mojibake", "x" * 300, "word " * 120,
    "1234567890", "!?.,;:'\"()[]{}<>/\\|@#$%^&*-_=+~`", "a_b_c", "¡¢£ ®¯° ÿĀ", "½ ² Ⅷ ①", "it's 5 o'clock",
]  # fmt: skip


@pytest.fixture(scope="module")
def both():
    return SimpleTokenizer(), Reference()


@pytest.mark.parametrize("text", CORPUS, ids=range(len(CORPUS)))
def test_ids_are_those_of_open_clip(both, text):
    mine, reference = both
    assert mine.encode(text) == reference.encode(text)
    assert torch.equal(clip.tokenize(text, truncate=True), reference([text]))


def test_random_unicode(both):
    mine, reference = both
    rng = random.Random(0)
    letters = [chr(i) for i in range(1, 0x3000) if unicodedata.category(chr(i)) not in ("Cs", "Cn")]
    for _ in range(300):
        text = "".join(rng.choice(letters) for _ in range(rng.randint(1, 12)))
        assert mine.encode(text) == reference.encode(text), repr(text)


def test_vocabulary(both):
    mine, reference = both
    assert len(mine.encoder) == 49408
    assert mine.encoder["<|startoftext|>"] == 49406 and mine.encoder["<|endoftext|>"] == 49407
    theirs = {token: index for token, index in reference.encoder.items() if index < 49406}
    assert {token: index for token, index in mine.encoder.items() if index < 49406} == theirs


def test_start_and_end_may_stand_in_a_text(both):
    """Under OpenAI's names for them (open_clip has its own)."""
    mine, _ = both
    assert mine.encode("<|startoftext|>a cat<|endoftext|>") == [49406, *mine.encode("a cat"), 49407]


@pytest.mark.parametrize("text", ["a photo of a cat.", "éàü 日本 😀", "it's 5 o'clock"])
def test_decode(both, text):
    mine, reference = both
    assert mine.decode(mine.encode(text)) == reference.decode(reference.encode(text))
    assert mine.decode(mine.encode(text)).replace(" ", "") == text.replace(" ", "")


def test_tokenize():
    tokens = clip.tokenize(["a cat.", "dogs"])
    assert tokens.dtype == torch.int64 and tokens.shape == (2, 77)
    assert tokens[0, 0] == 49406 and tokens[0].max() == 49407 and tokens[0, 5:].sum() == 0
    assert clip.tokenize("a cat.", context_length=8).shape == (1, 8)


def test_what_is_no_text():
    with pytest.raises(clip.InputError, match="3 is a int"):
        clip.tokenize(["a cat", 3])


def test_too_long_a_text():
    with pytest.raises(clip.InputError, match="'word word.*takes 122 tokens and there is room for 77"):
        clip.tokenize("word " * 120)
    assert clip.tokenize("word " * 120, truncate=True)[0, -1] == 49407
