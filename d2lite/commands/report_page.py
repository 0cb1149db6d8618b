"""The page of `d2lite report`: a template with the data in it."""

import json
import math
import os
from pathlib import Path
from typing import Any

_TEMPLATE = Path(__file__).with_name("report.html")
_PLACE = "/*DATA*/null"


def write_page(data: dict[str, Any], path: str) -> None:
    """Write the page for the data that `collect` returned."""
    # No text in the data may end the <script> that contains it.
    text = json.dumps(_plain(data), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    template = _TEMPLATE.read_text(encoding="utf-8")
    assert template.count(_PLACE) == 1, f"{_TEMPLATE} has no place for the data"
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(template.replace(_PLACE, text))


def _plain(value: Any) -> Any:
    """Round numbers to five digits, and replace those that are not finite by null."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if hasattr(value, "tolist"):  # of numpy
        return _plain(value.tolist())
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value
