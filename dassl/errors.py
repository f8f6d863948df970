"""The error for what a user gave and a run cannot use."""

LONGEST = 1500  # letters of a sentence that are shown


class InputError(ValueError):
    """One sentence that names the thing and the remedy.

    It may quote what stands in a file: it is shown in one line, and a long one without its middle.
    """

    def __str__(self) -> str:
        return in_one_line(super().__str__())


def in_one_line(text: str) -> str:
    """As any terminal shows it: of letters that have no sign of their own the number, of a long text both ends."""
    signs = (sign if sign.isprintable() else ascii(sign)[1:-1] for sign in shortened(text))
    return shortened("".join(signs))


def shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 + 5 :]}"
