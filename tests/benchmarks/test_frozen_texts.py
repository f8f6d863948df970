"""The benchmark of frozen texts finds what it has left, and leaves the rule as it was."""

from benchmarks import frozen_texts
from benchmarks.steps import EMBEDDED
from trainers.shared import texts


def test_it_encodes_and_finds(capsys, monkeypatch):
    encoded, before = [], dict(texts.LEAST)
    encode = texts.encode
    monkeypatch.setattr(texts, "encode", lambda model, *rest: encoded.append(model.text_store) or encode(model, *rest))
    assert frozen_texts.main(["--backbones", EMBEDDED, "--prompts", "5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[2].startswith(f"| {EMBEDDED} | 5 | ") and before == texts.LEAST
    assert sum(store is None for store in encoded) == frozen_texts.TURNS + 1
    assert sum(store is not None for store in encoded) == 1  # the first; the others have found it
