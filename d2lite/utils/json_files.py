"""Reading untrusted JSON files."""

import json
from typing import Any

from d2lite.utils.file_io import PathManager, read_text


def read_json(path: str) -> Any:
    """Parse a JSON file.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it is not valid JSON; the message has file, line and position.
    """
    return parse_json(read_json_text(path), path)


def read_json_text(path: str) -> str:
    """Return the text of a JSON file, not parsed yet; raises as `read_json`."""
    if not PathManager.isfile(path):
        if PathManager.isdir(path):
            raise FileNotFoundError(f"{path} is a folder; give the annotation file in it")
        raise FileNotFoundError(f"{path}: annotation file not found")
    return read_text(path)


def parse_json(text: str, path: str) -> Any:
    """Parse the text of the JSON file at `path`; raises a ValueError as `read_json`."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as e:
        at_end = e.pos >= len(text.rstrip()) - 1 or e.msg.startswith("Unterminated")
        hint = "; the file seems to be cut off: download or write it again" if at_end else ""
        raise ValueError(
            f"{path}: not valid JSON at line {e.lineno}, column {e.colno} "
            f"(character {e.pos} of {len(text)}): {e.msg}{hint}"
        ) from None
    except (ValueError, RecursionError) as e:  # numbers with thousands of digits; deep nesting
        raise ValueError(f"{path}: not valid JSON: {e}") from None
