"""Hook of mkdocs.yml: the site has the repository's own files at their own places, so that links work in both."""

import re
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = ("*.md", "docs/*.md", "config/*.md", "profiles/*.md", "results/README.md")
SHOWN = (
    "LICENSE",
    "*.cff",
    "requirements.txt",
    "constraints.txt",
    "docs/*.svg",
    "docs/*.css",
    "docs/walkthrough.py",
    "config/*.[yt]*",
)
"""What pages show or link to."""
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The theme's files, and the project's from the whole repository in place of those of `docs_dir` alone."""
    paths = sorted(path for pattern in (*PAGES, *SHOWN) for path in ROOT.glob(pattern))
    own = [File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)) for path in paths]
    return Files([file for file in files if file.src_dir != config.docs_dir] + own)


def on_page_content(html: str, **_) -> str:
    """Formulas as MathML, which browsers draw without a script."""

    def drawn(found: re.Match) -> str:
        return convert(found[2], display="block" if found[1] == "div" else "inline")

    return FORMULA.sub(drawn, html)
