"""Pins agree everywhere, and every conda environment holds what its rules' scripts import."""

import ast
import re
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml

from refusal_cliff import harness
from refusal_cliff.code_hash import PACKAGE

ROOT = Path(__file__).parents[1]
DISTRIBUTIONS = {"jinja2": "Jinja2", "yaml": "PyYAML", "sklearn": "scikit-learn"}
BLOCK = re.compile(
    r"^ *(?:use rule (\w+) as|rule) (\w+)(?: with)?:\n(.*?)(?=^ *(?:use rule|rule|ruleorder|if)\b|\Z)", re.M | re.S
)


def find_rules():
    """(rule, environment, script) of every rule that runs one; a rule that inherits has what its parent has."""
    found = {}
    for path in sorted((ROOT / "workflow" / "rules").glob("*.smk")):
        for parent, rule, body in BLOCK.findall(path.read_text()):
            environment = re.search(r'envs/(\w+)\.yaml"', body)
            script = re.search(r'scripts/(\w+)\.py"|\*\*uses\("(\w+)"\)', body)
            own = (environment and environment[1], script and (script[1] or script[2]))
            inherited = found.get(parent, (None, None))
            found[rule] = tuple(one or other for one, other in zip(own, inherited, strict=True))
    return [(rule, *parts) for rule, parts in found.items() if all(parts)]


RULES = find_rules()


def pins(text):
    return dict(re.findall(r"^\s*-?\s*([\w.-]+)==([^\s#]+)", text, re.MULTILINE))


REQUIREMENTS = pins((ROOT / "requirements.txt").read_text())


def environment(name):
    content = yaml.safe_load((ROOT / "envs" / f"{name}.yaml").read_text())
    packages = next(entry["pip"] for entry in content["dependencies"] if isinstance(entry, dict))
    return pins("\n".join(packages))


@pytest.mark.parametrize("name", [path.stem for path in sorted((ROOT / "envs").glob("*.yaml"))])
def test_an_environments_pins_are_the_requirements(name):
    found = environment(name)
    assert found
    # What no other rule needs is pinned there alone.
    assert found == {package: (REQUIREMENTS | {"lm-eval": harness.VERSION})[package] for package in found}


def test_constraints_hold_every_requirement_but_torch():
    # Which build of torch 2.13.0 is right depends on the machine.
    constraints = pins((ROOT / "constraints.txt").read_text())
    assert "torch" not in constraints
    assert {**REQUIREMENTS, "torch": None}.items() <= {**constraints, "torch": None}.items()


@cache
def top_level(path):
    return ast.parse(path.read_text()).body


def imports(path, found):
    """Top-level imports of a script and of the package modules behind it."""
    for node in top_level(path):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            # From a package of the package, modules are imported; from a module, what it has.
            package = (PACKAGE.parent / node.module.replace(".", "/")).is_dir()
            names += [f"{node.module}.{alias.name}" for alias in node.names] if package else [node.module]
        for name in names:
            if not name.startswith("refusal_cliff"):
                found.add(name.split(".")[0])
            elif (module := PACKAGE.joinpath(*name.split(".")[1:]).with_suffix(".py")) not in found:
                found.add(module)
                imports(module, found)
    return {name for name in found if isinstance(name, str)}


def test_every_rule_with_a_script_is_checked():
    scripts = {path.stem for path in (ROOT / "workflow" / "scripts").glob("*.py")}
    assert {script for _, _, script in RULES} == scripts
    assert len(RULES) > 40


@pytest.mark.parametrize(("rule", "env", "script"), RULES)
def test_a_rules_environment_holds_what_its_script_imports(rule, env, script):
    needed = imports(ROOT / "workflow" / "scripts" / f"{script}.py", set()) - set(sys.stdlib_module_names)
    assert {DISTRIBUTIONS.get(name, name) for name in needed} <= set(environment(env)), rule


def test_a_script_has_the_name_of_its_first_rule():
    first = {}
    for rule, _, script in RULES:
        first.setdefault(script, rule)
    assert {script: rule for script, rule in first.items() if script != rule} == {}


def test_a_statistic_makes_no_model_run_again():
    """What runs or trains a model imports no statistics: a change of an interval must not cost a generation."""
    for path in (ROOT / "workflow" / "scripts").glob("*.py"):
        imports(path, found := set())
        counts = path.stem.startswith(("tabulate_", "plot_")) or path.stem in COUNTING
        assert counts or PACKAGE / "stats.py" not in found, path.name


COUNTING = {"collect_outcomes", "evaluate_claims", "evaluate_guard", "evaluate_probes"}
"""Scripts that compute from what models did; none of them loads one but `evaluate_guard`, once for all models."""


def test_every_rule_is_written_once_and_found_by_its_name():
    text = "".join(path.read_text() for path in (ROOT / "workflow" / "rules").glob("*.smk"))
    for rule, _, _ in RULES:
        assert len(re.findall(rf"rule.* {rule}(?: with)?:$", text, re.M)) == 1, rule
    assert len(text.splitlines()) <= 2700


def floors():
    """The floor of every module of the package, as docs/architecture.md stacks them."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    stack = re.search(r"imports only from floors below it:\n\n((?:    .*\n)+)", page)[1]
    return {name: floor for floor, line in enumerate(stack.splitlines()) for name in line.split()}


def test_a_module_imports_only_from_floors_below_it():
    floor, modules = floors(), sorted(PACKAGE.glob("*.py"))
    assert {path.stem for path in modules} - {"__init__"} == set(floor) - {"plots"}
    for path in [*modules, *(PACKAGE / "plots").glob("*.py")]:
        own = floor["plots"] if path.parent.name == "plots" else floor.get(path.stem)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("refusal_cliff."):
                other = node.module.split(".")[1]
                assert floor[other] < own or other == path.parent.name, f"{path.name} imports {other}"
