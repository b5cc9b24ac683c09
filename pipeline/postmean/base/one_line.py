"""Foreign text as part of a message of one line: names in archives, and what other libraries say about their bytes."""

_LONGEST = 200


def printable(name: str) -> str:
    """A file's or class's name with escapes for what a terminal or UTF-8 cannot show, such as line ends.

    A byte of a name that is not UTF-8 becomes \\xNN. Other names stay as they are.
    """
    return name if name.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in name)


def brief(error: object) -> str:
    """What an error says, or its type if that is nothing: one line of at most 200 characters."""
    said = printable(str(error)[: 10 * _LONGEST]) or type(error).__name__
    return said if len(said) <= _LONGEST else f"{said[:_LONGEST]}..."


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python keeps a byte that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()
