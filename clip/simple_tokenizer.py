"""CLIP's tokenizer: lower-cased byte-level BPE (Sennrich et al., ACL 2016; Radford et al., 2019).

The vocabulary is the one published with CLIP; it is read from the installed `open_clip_torch`, which ships it.
"""

import gzip
import html
import importlib.util
from functools import cache
from itertools import pairwise
from pathlib import Path

import ftfy
import regex

from .errors import InputError

START, END = "<|startoftext|>", "<|endoftext|>"
VOCABULARY = 49152  # learned merges and their bytes; start and end come on top of them
WORDS = regex.compile(
    rf"{regex.escape(START)}|{regex.escape(END)}|'s|'t|'re|'ve|'m|'ll|'d|\p{{L}}+|\p{{N}}|[^\s\p{{L}}\p{{N}}]+",
    regex.IGNORECASE,
)


def default_bpe() -> str:
    """Path of the vocabulary inside `open_clip_torch`, found without importing that package (which is slow)."""
    package = importlib.util.find_spec("open_clip")
    if package is not None:
        for folder in package.submodule_search_locations or ():
            path = Path(folder) / "bpe_simple_vocab_16e6.txt.gz"
            if path.is_file():
                return str(path)
    raise InputError(
        "CLIP's vocabulary is taken from open_clip_torch, which is not installed: pip install open_clip_torch."
    )


@cache
def byte_symbols() -> dict[int, str]:
    """A printable character for each byte; bytes that print stand for themselves, and come first in the vocabulary."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + index) for index, byte in enumerate(others)}


@cache
def read_merges(path: str) -> list[tuple[str, str]]:
    """The merges in order of rank; the file's first line is a comment, and it holds more merges than CLIP uses."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")
    pairs = map(str.split, lines[1 : VOCABULARY - 256 - 2 + 1])
    return [(left, right) for left, right in pairs]


def clean(text: str) -> str:
    """Mended unicode, HTML entities resolved (twice: some are escaped twice), white space collapsed, lower case."""
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


def words(text: str) -> list[str]:
    """What is encoded word by word. Two texts have the same tokens where they have the same words, and only there."""
    return WORDS.findall(clean(text))


class SimpleTokenizer:
    """`encode` gives ids without start and end; `decode` turns ids into cleaned text."""

    def __init__(self, bpe_path: str | None = None):
        merges = read_merges(bpe_path or default_bpe())
        self.byte_encoder = byte_symbols()
        self.byte_decoder = {symbol: byte for byte, symbol in self.byte_encoder.items()}
        symbols = list(self.byte_encoder.values())
        entries = [*symbols, *(symbol + "</w>" for symbol in symbols), *("".join(pair) for pair in merges), START, END]
        self.encoder = {entry: index for index, entry in enumerate(entries)}
        self.decoder = {index: entry for entry, index in self.encoder.items()}
        self.bpe_ranks = {pair: rank for rank, pair in enumerate(merges)}
        self.cache: dict[str, list[int]] = {START: [self.encoder[START]], END: [self.encoder[END]]}

    def bpe(self, word: str) -> list[str]:
        """Join the pair of best rank, everywhere in the word, until no pair is known."""
        pieces = [*word[:-1], word[-1] + "</w>"]
        while len(pieces) > 1:
            best = min(pairwise(pieces), key=lambda pair: self.bpe_ranks.get(pair, float("inf")))
            if best not in self.bpe_ranks:
                break
            joined, i = [], 0
            while i < len(pieces):
                pair = tuple(pieces[i : i + 2]) == best
                joined.append("".join(best) if pair else pieces[i])
                i += 2 if pair else 1
            pieces = joined
        return pieces

    def encode(self, text: str) -> list[int]:
        ids = []
        for word in words(text):
            if word not in self.cache:
                symbols = "".join(self.byte_encoder[byte] for byte in word.encode("utf-8"))
                if len(self.cache) > 100_000:
                    self.cache = {mark: [self.encoder[mark]] for mark in (START, END)}
                self.cache[word] = [self.encoder[piece] for piece in self.bpe(symbols)]
            ids += self.cache[word]
        return ids

    def decode(self, tokens) -> str:
        text = "".join(self.decoder[int(token)] for token in tokens)
        data = bytearray(self.byte_decoder[symbol] for symbol in text.replace("</w>", self.byte_encoder[ord(" ")]))
        return data.decode("utf-8", errors="replace")
