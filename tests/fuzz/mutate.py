"""What chance does to a good input: to its bytes, to its text, to the tree that it says."""

import copy
import json
from random import Random

DEEP = (30, 200, 3000, 100_000)  # levels


def nested(chance: Random, left: str, right: str, core: str = "1") -> str:
    depth = chance.choice(DEEP)
    return left * depth + core + right * chance.choice((depth, depth - 1, 0))


def odd_json(chance: Random) -> str:
    """A value as a JSON file may have it, or nearly."""
    return chance.choice(
        (
            lambda: chance.choice(("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1e-999", "nan", "0x10", "007")),
            lambda: chance.choice(("-1", "-0.0", "100.0000001", "101", "1e2", "1E+2", "99.99", "0", "3.0", "1e-7")),
            lambda: chance.choice(("1", "9", "-9")) + "0" * chance.choice((18, 19, 308, 309, 400, 4299, 5000)),
            lambda: chance.choice(("true", "false", "null", '""', '" "', "[]", "{}", "[[]]", "[null]", '{"a": 1}')),
            lambda: chance.choice(('"1"', '"50.0"', '"nan"', '"inf"', '"True"', '"../../x"', '"/dev/zero"', '"."')),
            lambda: chance.choice((r'"\ud800"', r'"a\udfffb"', r'"\u0000"', r'"a\nb\n* accuracy: 99.9%"', r'"\u202e"')),
            lambda: chance.choice((r'"a/\u0000/b"', '"' + "a/" * 5000 + '"', r'"cat\\dog\\"', '"~/x"', '"/etc/passwd"', '"cat/../cat/train_0.jpg"')),
            lambda: f'"/x/xd_train/dtd/shots_{"9" * chance.choice((2, 5000))}/CoOp/a/seed{"1" * chance.choice((1, 5000))}"',
            lambda: '"' + "a" * chance.choice((300, 5000, 200_000)) + '"',
            lambda: "[" + ", ".join(["1"] * chance.choice((2, 50, 20_000))) + "]",
            lambda: nested(chance, "[", "]"),
            lambda: nested(chance, '{"a":', "}"),
            lambda: '{"a": 1, "a": 2}',
            lambda: json.dumps(chance.uniform(-1e3, 1e3)),
        )
    )()  # fmt: skip


def paths_in(tree, path: tuple = ()) -> list[tuple]:
    """The places of a tree of dicts and lists, but its root."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [place for key, value in inner for place in ((*path, key), *paths_in(value, (*path, key)))]


def spoilt_json(chance: Random, tree, dearest: tuple = ()) -> str:
    """The text of a tree in which some places have odd values, other names, or are gone; `dearest` are hit most."""
    tree, odd = copy.deepcopy(tree), {}
    for number in range(chance.choice((0, 1, 1, 1, 2, 4))):
        places = paths_in(tree)
        if not places:
            break
        dear = [place for place in places if place[-1] in dearest]
        *way, last = chance.choice(dear if dear and chance.random() < 0.5 else places)
        node = tree
        for key in way:
            node = node[key]
        what = chance.random()
        if what < 0.15:
            del node[last]
        elif what < 0.25 and isinstance(node, dict):
            node[chance.choice(("", "a.b", "\ud800", "x" * 200, last * 2))] = node.pop(last)
        elif what < 0.3:
            node[last] = {"inner": node[last]}
        elif what < 0.35:
            node[last] = [node[last]]
        else:
            node[last] = f"@{number}@"
            odd[f'"@{number}@"'] = odd_json(chance)
    text = json.dumps(tree)
    for mark, value in odd.items():
        text = text.replace(mark, value)
    if chance.random() < 0.1:  # one name twice
        key = chance.choice(dearest or ("a",))
        text = text.replace("{", f'{{"{key}": {odd_json(chance)}, ', 1)
    return text


BYTES = (
    b"\x00",
    b"\xff",
    b"\xfe",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\r",
    b"\n",
    b'"',
    b"{",
    b"[",
    b"9",
    b"-",
    b".",
    b"e",
)


def spoilt_bytes(chance: Random, data: bytes, most: int = 6) -> bytes:
    """Some bytes flipped, put in, taken out, said twice, or the end cut off."""
    data = bytearray(data)
    for _ in range(chance.randint(1, most)):
        at, what = chance.randrange(len(data) + 1), chance.random()
        length = chance.choice((1, 1, 2, 8, 100))
        if what < 0.35 and at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        elif what < 0.5:
            data[at:at] = chance.choice(BYTES)
        elif what < 0.6:
            data[at : at + length] = b""
        elif what < 0.7:
            data[at:at] = data[at : at + length]
        elif what < 0.8:
            data[at : at + length] = bytes(len(data[at : at + length]))
        elif what < 0.9:
            data[at : at + length] = chance.randbytes(length)
        else:
            del data[at:]
    return bytes(data)


def perhaps_spoilt(chance: Random, text: str, share: float = 0.25) -> bytes:
    """A text's bytes, which are hit as well now and then."""
    data = text.encode("utf-8", "surrogatepass")
    return spoilt_bytes(chance, data) if chance.random() < share else data
