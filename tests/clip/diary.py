"""An edit that writes down what it is asked."""

from clip import Edit


class Diary(Edit):
    """Writes down what it is asked, and can drop all but some tokens after a block."""

    def __init__(self, attention_at=(), keep=None, after=0):
        self.calls, self.attention_at, self.keep, self.after, self.rows = [], attention_at, keep, after, {}

    def embed(self, x):
        self.calls.append(("embed", x.shape[1]))
        return x

    def before_block(self, x, i):
        self.calls.append(("before", i, x.shape[1]))
        return x

    def needs_class_attention(self, i):
        return i in self.attention_at

    def after_block(self, x, i, class_attention):
        self.calls.append(("after", i, x.shape[1]))
        self.rows[i] = class_attention
        return x[:, : self.keep] if self.keep and i == self.after else x
