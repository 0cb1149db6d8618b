"""Safe output of text from files: names may have characters that move the cursor or hide lines."""

import re

# Control characters except tab and line feed, characters that reverse the direction of text, and
# lone surrogates, which no stream can write. Color codes, which our tables contain, are kept.
_COLOR = r"\x1b\[[0-9;]{0,20}m"
_UNPRINTABLE = re.compile(
    rf"{_COLOR}|([\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff])"
)


def printable(text: str) -> str:
    """Return a text with its control characters written as escapes, `\\x1b`."""
    return _UNPRINTABLE.sub(
        lambda match: match[1].encode("unicode_escape").decode() if match[1] else match[0], text
    )
