"""The page that lists every config key, made from `d2lite/config/defaults.py`."""

import ast
import re
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

DEFAULTS = Path(__file__).parents[2] / "d2lite" / "config" / "defaults.py"
_NEW = "(d2lite)"
_TITLE = re.compile(r"^# -{20,}\n# (.+)\n# -{20,}$", re.MULTILINE)
_KEY = re.compile(r"\b[A-Z][A-Z0-9_]*(?:\.[A-Z0-9_]+)+\b")
# Defaults that are computed, as a reader would write them.
_COMPUTED = {"1.0 / 1000": "0.001", "CURRENT_VERSION": "2"}


class Setting(NamedTuple):
    """A key, or a group of keys, as the file of defaults has it."""

    section: str  # title of the part of the file
    key: str  # with all groups, such as "MODEL.RPN.NMS_THRESH"
    default: str  # as Python writes it; "" for a group
    comment: str  # above it, on one line
    is_new: bool  # detectron2 does not have it

    @property
    def group(self) -> str:
        """The group that it is in, such as "MODEL.RPN"; "" at the top level."""
        return self.key.rpartition(".")[0]


def read_settings(path: Path = DEFAULTS) -> list[Setting]:
    """Return the groups and keys of the file, in its order."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    titles = [(text.count("\n", 0, found.start()), found[1]) for found in _TITLE.finditer(text)]
    found = []
    for node in ast.parse(text).body:
        target = ast.unparse(node.targets[0]) if isinstance(node, ast.Assign) else ""
        if not target.startswith("_C."):
            continue
        first = node.lineno - 1
        while lines[first - 1].startswith("# ") and not lines[first - 1].startswith("# ---"):
            first -= 1
        comment = " ".join(line[2:] for line in lines[first : node.lineno - 1])
        default = re.sub(r"\s+", " ", ast.get_source_segment(text, node.value) or "")
        found.append(
            Setting(
                section=next((title for line, title in reversed(titles) if line < first), ""),
                key=target.removeprefix("_C."),
                default="" if default == "CfgNode()" else _COMPUTED.get(default, default),
                comment=comment.replace(_NEW, "").strip(),
                is_new=_NEW in comment,
            )
        )
    return found


def markdown() -> str:
    """Return the page."""
    found = read_settings()
    keys = {s.key for s in found if s.default}
    about_groups = {s.key: s.comment for s in found if not s.default}
    lines = [
        "# Config keys",
        "",
        f"The {len(keys)} keys of `get_cfg()`, with types and defaults, made from the comments",
        "in `d2lite/config/defaults.py`. Projects add keys of their own; see their READMEs. Every",
        "key can be set in a YAML file or on the command line (`KEY VALUE`). A value must have the",
        "type of the default; lists and tuples are interchangeable.",
        "",
    ]
    for section, members in groupby((s for s in found if s.default), lambda s: s.section):
        in_section = list(members)
        lines += [f"## {section or 'Version'}", ""]
        # Keys of the top level come first: under a later heading they would seem to belong to it.
        for group in dict.fromkeys(sorted((s.group for s in in_section), key=bool)):
            if group:
                lines += [f"### {group} {{ #{group} }}", ""]
            if about_groups.get(group):
                lines += [_prose(about_groups[group], keys), ""]
            for setting in (s for s in in_section if s.group == group):
                lines += _entry(setting, keys)
    return "\n".join(lines)


def _entry(setting: Setting, keys: set[str]) -> list[str]:
    """Return the lines of a definition: key, type and default, then the comment."""
    value = ast.literal_eval(setting.default)
    kind = "float or None" if value is None else type(value).__name__
    new = " · new in d2lite" if setting.is_new else ""
    return [
        f"<span id='{setting.key}'></span>**`{setting.key}`** · {kind} · `{setting.default}`{new}",
        f":   {_prose(setting.comment, keys)}",
        "",
    ]


def _prose(comment: str, keys: set[str]) -> str:
    """Escape what Markdown would take for markup, and link the keys that are named."""
    text = re.sub(r"([*<>\[\]])", r"\\\1", comment)
    return _KEY.sub(lambda m: f"[`{m[0]}`](#{m[0]})" if m[0] in keys else m[0], text)
