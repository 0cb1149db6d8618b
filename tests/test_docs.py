"""The pages of `docs/`: commands parse, keys exist, and the program of `extending.md` runs."""

import re
import shlex
from pathlib import Path

import pytest

from d2lite import commands
from d2lite.config import get_cfg
from d2lite.config.keys import has_key
from d2lite.utils.arguments import split_overrides
from docs.building.config_reference import markdown, read_settings

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(DOCS.glob("*.md"))
# Keys that pages name as examples of mistakes, or of projects.
NOT_KEYS = {"SOLVER.BASE_RL", "MODEL.SSD", "SECURITY.md"}
_KEY = re.compile(r"\b[A-Z][A-Z0-9_]+(?:\.[A-Z0-9_]+)+\b(?![.*_])")


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a language; those within lists are indented."""
    text = page.read_text(encoding="utf-8")
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, block in found]


def command_lines() -> list[str]:
    """Each `d2lite ...` of the shell blocks of all pages, on one line."""
    lines = [
        line.strip().removeprefix("python -m ")
        for page in [*PAGES, DOCS.parent / "README.md"]
        for block in blocks(page, "sh")
        for line in block.replace("\\\n", " ").splitlines()
    ]
    return sorted({line for line in lines if line.startswith("d2lite ")})


@pytest.mark.parametrize("line", command_lines())
def test_commands_are_understood(line):
    name, *words = shlex.split(line, comments=True)[1:]
    parser = commands.build_parser(name)
    mixed = name != "data"
    args = (parser.parse_intermixed_args if mixed else parser.parse_args)(words)
    overrides = split_overrides(getattr(args, "sources", []) or getattr(args, "opts", []))[1]
    assert all(has_key(get_cfg(), key) for key in overrides[::2])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_config_keys_exist(page):
    named = set(_KEY.findall(page.read_text(encoding="utf-8"))) - NOT_KEYS
    assert [key for key in sorted(named) if not has_key(get_cfg(), key)] == []


def test_the_program_of_the_page_about_extending_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    program = "\n".join(blocks(DOCS / "extending.md", "python"))
    names = {"__name__": "my_parts"}
    exec(compile(program, "extending.md", "exec"), names)
    trainer = names["trainer"]
    assert type(trainer.model.roi_heads).__name__ == "SmoothedROIHeads"
    assert trainer.storage.histories()["largest_gradient"].latest() > 0
    assert "brightness" in next(iter(trainer.data_loader))[0]


def test_every_key_is_on_the_page_of_config_keys():
    page = markdown()
    for setting in read_settings():
        if setting.default:
            assert f"**`{setting.key}`**" in page


def test_comments_become_text_and_links():
    page = markdown()
    assert "DATASETS.PROPOSAL_FILES_\\*" in page  # no emphasis up to the next asterisk
    assert "in the order of [`INPUT.FORMAT`](#INPUT.FORMAT)" in page
