"""The documents build into a website without a warning, and the website needs no network."""

import os
import re
import subprocess
import sys

import pytest
import yaml
from project import ROOT

NAVIGATION = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M)
LOADED = re.compile(r"""<(?:script|link|img|iframe|source|object)\b[^>]*?\b(?:src|href|data)=["']?([^"' >]+)""")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "WARNING" not in done.stdout, done.stdout
    return folder


def test_every_page_of_the_navigation_is_built(site):
    assert "README.md" in NAVIGATION
    for page in NAVIGATION:
        html = site / re.sub(r"(README)?\.md$", lambda found: "index.html" if found[1] else ".html", page)
        assert "<article" in html.read_text(), page
        assert (ROOT / page).read_text().startswith("# "), page


def test_no_page_asks_for_anything_on_the_network(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > len(NAVIGATION)
    for page in pages:
        text = page.read_text()
        loaded = LOADED.findall(text)
        assert loaded, page
        assert not [address for address in loaded if re.match(r"(\w+:)?//", address)], page
        assert 'class="mermaid"' not in text, page  # the theme would fetch it
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import\s*)[\"']?(?:https?:)?//", sheet.read_text()), sheet


def test_tables_lists_and_formulas_are_read_as_on_github(site):
    for page in site.rglob("*.html"):
        article = page.read_text().partition("<article")[2]
        for paragraph in re.findall(r"<p>(.*?)</p>", article, re.S):
            assert not re.search(r"^(?:- |\d+\. |\|)", paragraph, re.M), f"{page.name}: {paragraph[:200]}"
    methods = (site / "docs" / "methods.html").read_text()
    formulas = re.findall(r"<math.*?</math>", methods, re.S)
    assert formulas and "arithmatex" not in methods
    assert not [formula for formula in formulas if "\\" in formula], "a command of TeX that is not drawn"


def test_terms_explain_every_family_and_probe_that_tables_name():
    terms = (ROOT / "docs" / "terms.md").read_text()
    sheet = (ROOT / "config" / "instruments_models.tsv").read_text().splitlines()[1:]
    config = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    for name in [*(row.split("\t")[0] for row in sheet), *config["probes"], *config["heads"]["measures"]]:
        assert f"`{name}`" in terms, name


def test_the_citation_and_the_changelog_name_one_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    changelog = (ROOT / "CHANGELOG.md").read_text()
    version, day = re.search(r"^## \[(\d+\.\d+\.\d+)\] - (\S+)$", changelog, re.M).groups()
    assert (citation["version"], str(citation["date-released"])) == (version, day)
    assert changelog.index("## [Unreleased]") < changelog.index(f"## [{version}]")
