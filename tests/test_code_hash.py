"""A hash of code changes with what the code means, and with nothing else."""

import pytest

from refusal_cliff import code_hash as module

STATS = '''"""Numbers."""

import math

LIMIT = 3
"""Of something."""


def double(x):
    """Twice x."""
    return 2 * x  # a comment
'''
SCRIPTS = {
    "plain": "from refusal_cliff.stats import double\n",
    "of_package": "from refusal_cliff import stats\n",
    "as_module": "import refusal_cliff.stats\n",
    "nested": "from refusal_cliff.middle import helper\n",
    "late": "def run():\n    from refusal_cliff.stats import double\n",
    "unrelated": "from refusal_cliff.other import thing\n",
    "for_types": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from refusal_cliff.stats import double\n",
}
USES = ("plain", "of_package", "as_module", "nested", "late")


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "refusal_cliff"
    (folder / "plots").mkdir(parents=True)
    for name, text in {
        "__init__": "",
        "stats": STATS,
        "middle": "from refusal_cliff.stats import double\n\nhelper = double\n",
        "other": "thing = 1\n",
        "plots/__init__": "",
        "plots/lines": "from refusal_cliff.other import thing\n",
    }.items():
        (folder / f"{name}.py").write_text(text)
    for name, text in SCRIPTS.items():
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "draws.py").write_text("from refusal_cliff.plots.lines import thing\n")
    monkeypatch.setattr(module, "PACKAGE", folder)
    return folder


def hashes():
    module._meaning.cache_clear()
    module._imports.cache_clear()
    return {name: module.code_hash(name) for name in (*SCRIPTS, "draws")}


def test_words_and_layout_change_no_hash(package):
    before = hashes()
    text = (
        STATS.replace("Twice x.", "Two times x.").replace("# a comment", "# another").replace("Of something", "Of all")
    )
    (package / "stats.py").write_text(text.replace("import math\n", "import math\n\n\n").replace("Numbers", "Figures"))
    assert hashes() == before


def test_a_number_changes_the_hash_of_every_script_that_can_reach_it(package):
    before = hashes()
    (package / "stats.py").write_text(STATS.replace("2 * x", "3 * x"))
    after = hashes()
    assert {name for name in before if before[name] != after[name]} == set(USES)


def test_a_text_that_is_a_value_counts(package):
    (package / "stats.py").write_text(STATS + 'NAME = "one"\n')
    before = hashes()
    (package / "stats.py").write_text(STATS + 'NAME = "two"\n')
    assert before["plain"] != hashes()["plain"]


def test_modules_of_subpackages_are_followed(package):
    before = hashes()
    (package / "other.py").write_text("thing = 2\n")
    after = hashes()
    assert {name for name in before if before[name] != after[name]} == {"unrelated", "draws"}
