"""YAML files and values as plain data, within bounds: neither can hang a run, nor say two things of one key."""

from ast import literal_eval

import yaml

from ..errors import InputError

MOST_BYTES = 100_000  # of a file
MOST_VALUES = 10_000  # in it, where what an alias names counts as often as it is named
DEEPEST = 50  # levels
LONGEST = 3000  # letters of a number, tuple or list: Python prints no number of more than 4300 digits
INT = "tag:yaml.org,2002:int"
DATE = "tag:yaml.org,2002:timestamp"  # a config knows none, so it is text


class PlainLoader(yaml.SafeLoader):
    """YAML without tags, whose nodes are looked at before anything is made of them."""

    yaml_implicit_resolvers = {
        sign: [(tag, pattern) for tag, pattern in resolvers if tag != DATE]
        for sign, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str):
        super().__init__(text)
        self.level = 0
        self.values: dict[yaml.Node, int] = {}  # in a node that is complete

    def compose_node(self, parent, index):
        event = self.peek_event()
        named = self.anchors.get(event.anchor) if isinstance(event, yaml.AliasEvent) else None
        if named is not None and named not in self.values:
            self.refuse(f"{event.anchor} contains itself", event)
        if getattr(event, "tag", None) not in (None, "!"):
            self.refuse(f"the tag {event.tag} is not read", event)
        self.level += 1
        if self.level > DEEPEST:
            self.refuse(f"there are more than {DEEPEST} levels", event)
        node = super().compose_node(parent, index)
        self.level -= 1
        if node not in self.values:
            self.values[node] = 1 + sum(self.values[inner] for inner in self.check(node, event))
        if self.values[node] > MOST_VALUES:
            self.refuse(f"there are more than {MOST_VALUES:,} values", event)
        return node

    def check(self, node, event) -> list:
        """The nodes in a node; a key that stands twice, and a number without end, are refused."""
        if isinstance(node, yaml.ScalarNode):
            if node.tag == INT and len(node.value) > LONGEST:
                self.refuse(f"a number has more than {LONGEST} digits", event)
            return []
        if isinstance(node, yaml.SequenceNode):
            return node.value
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = next((key for key in keys if keys.count(key) > 1), None) if len(set(keys)) < len(keys) else None
        if twice is not None:
            self.refuse(f"the key {twice} stands twice", event)
        return [inner for pair in node.value for inner in pair]

    def refuse(self, why: str, event) -> None:
        raise yaml.composer.ComposerError(None, None, why, event.start_mark)


def read_yaml(path: str):
    """What a YAML file says, in plain values; what cannot be read, or goes beyond the bounds, is an InputError."""
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise InputError(f"The config file {path} cannot be read ({error.strerror}): make it readable.") from error
    if len(data) > MOST_BYTES:
        raise InputError(f"The config file {path} has more than {MOST_BYTES:,} bytes: give a config of a run.")
    try:
        loader = PlainLoader(data.decode("utf-8-sig"))
        loader.name = path
        return loader.get_single_data()
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # the latter two of a number that is none
        raise InputError(
            f"The config file {path} is no valid YAML ({' '.join(str(error).split())}): correct it."
        ) from error


def evaluated(value):
    """YAML and command lines give 1e-5 and (224, 224) as strings; they are numbers and tuples."""
    if not isinstance(value, str) or len(value) > LONGEST:
        return value
    try:
        return literal_eval(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # as its documentation lists them
        return value
