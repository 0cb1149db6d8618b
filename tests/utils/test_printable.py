"""Control characters in text for a terminal."""

from d2lite.utils.printable import printable


def test_colors_of_tables_stay():
    assert printable("\x1b[1;32mgreen\x1b[0m \x1b]0;title\x07") == (
        "\x1b[1;32mgreen\x1b[0m \\x1b]0;title\\x07"
    )
