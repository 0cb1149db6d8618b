"""Hooks of MkDocs, which `mkdocs.yml` names: pages that are generated, and links between pages.

Generated are the list of config keys, the API reference (a page for each package of d2lite), and
the tutorial, from its notebook. Pages from elsewhere in the repository are shown too, so that
nothing is written twice.
"""

import ast
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from config_reference import markdown as config_reference  # a file next to this one
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]

# Pages of the repository outside of docs/, by their place on the site.
OTHER_PAGES = {
    "security.md": "SECURITY.md",
    "contributing.md": "CONTRIBUTING.md",
    "design.md": "DESIGN.md",
    "projects.md": "projects/README.md",
}
# Packages without an API of their own: entry points, old names, extensions.
_NOT_DOCUMENTED = {"commands", "compat", "projects"}
# Modules of d2lite.utils, whose package is empty.
_UTILS = ("events", "comm", "env", "file_io", "logger", "registry", "memory", "cli")
_LINK = re.compile(r"(!?)\[([^\[\]]*)\]\(([^()\s]+)\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made or stand elsewhere."""
    for page, source in OTHER_PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    made = {"reference/config.md": config_reference(), "tutorial.md": notebook_page()}
    made |= {f"reference/api/{name}": text for name, text in api_pages()}
    for page, text in made.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: Any, files: Files) -> str:
    """Turn links between files of the repository into links between pages.

    A link to a file that is no page becomes its text. One to a file that does not exist is left
    as it is, so that MkDocs warns of it.
    """
    here = OTHER_PAGES.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    to_page = {source: name for name, source in OTHER_PAGES.items()}

    def replace(link: re.Match) -> str:
        sign, text, target = link.groups()
        path, _, anchor = target.partition("#")
        if not path or "://" in target:
            return link[0]
        in_repository = os.path.normpath(os.path.join(os.path.dirname(here), path))
        inside = in_repository.removeprefix(f"docs{os.sep}").replace(os.sep, "/")
        name = to_page.get(in_repository) or (inside if files.get_file_from_path(inside) else "")
        if name:
            relative = os.path.relpath(name, os.path.dirname(page.file.src_uri) or ".")
            return f"{sign}[{text}]({relative.replace(os.sep, '/')}{'#' * bool(anchor)}{anchor})"
        return text if (ROOT / in_repository).exists() else link[0]

    # Code blocks hold no links.
    parts = re.split(r"(^```.*?^```$)", markdown, flags=re.MULTILINE | re.DOTALL)
    return "".join(x if x.startswith("```") else _LINK.sub(replace, x) for x in parts)


def notebook_page() -> str:
    """Return the tutorial as Markdown: its cells in their order."""
    notebook = json.loads((ROOT / "docs" / "tutorial.ipynb").read_text(encoding="utf-8"))
    cells = []
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        cells.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
    title, *rest = cells
    return "\n\n".join([title, "[The notebook of this page](tutorial.ipynb)", *rest])


def api_pages() -> Iterator[tuple[str, str]]:
    """Yield a page for each package that exports names, and an overview that links them."""
    rows = []
    for path in sorted((ROOT / "d2lite").rglob("__init__.py")):
        parts = path.parent.relative_to(ROOT).parts
        names = _exported(path)
        if len(parts) < 2 or parts[1] in _NOT_DOCUMENTED or not names:
            continue
        package = ".".join(parts)
        about = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        summary = about.splitlines()[0].rstrip(".:")
        rows.append(f"| [`{package}`]({package}.md) | {summary} |")
        yield f"{package}.md", f"# {package}\n\n::: {package}\n"
    modules = "\n".join(f"## d2lite.utils.{name}\n\n::: d2lite.utils.{name}\n" for name in _UTILS)
    yield "d2lite.utils.md", f"# d2lite.utils\n\nModules that programs import by name.\n\n{modules}"
    rows.append("| [`d2lite.utils`](d2lite.utils.md) | Events, logs, processes, files |")
    yield (
        "index.md",
        "\n".join(
            [
                "# API reference",
                "",
                "Made from the docstrings. Names of detectron2 are found at its paths, with",
                "`d2lite` in place of `detectron2`.",
                "",
                "| package | |",
                "| --- | --- |",
                *rows,
            ]
        ),
    )


def _exported(init: Path) -> list[str]:
    """Return the names in a package's `__all__`."""
    for node in ast.parse(init.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ast.literal_eval(node.value)
    return []
