"""Write the tables of keys and columns in config/README.md from the schemas, the one place that explains them.

    python docs/config_keys.py

The tables stand between the markers `<!-- config -->` and `<!-- end -->`, and so for each sheet.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
README = ROOT / "config" / "README.md"
SCHEMAS = ROOT / "workflow" / "schemas"
SECTION = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def keys(
    schema: dict[str, Any], definitions: dict[str, Any], path: tuple[str, ...] = (), given: dict[str, Any] | None = None
) -> Iterator[str]:
    """A row for each key: what it is, and its default. What a definition explains for one key it explains for all.

    Args:
        given: defaults that the key above gives those below it.
    """
    children = dict(schema.get("properties", {}))
    if isinstance(others := schema.get("additionalProperties"), dict) and "description" not in others and path:
        children["<name>"] = others
    for key, child in children.items():
        defined = definitions.get(child.get("$ref", "").rpartition("/")[2], {})
        whole, name = defined | child, ".".join((*path, key))
        if key in (given or {}):
            whole["default"] = given[key]
        about = whole.get("description", "")
        if explained := defined.get("explained"):
            about += f" Its keys are those of `{explained}`; their values are in config.yaml."
        if about:
            yield f"| `{name}` | {about} | {'' if 'properties' in whole else shown(whole)} |"
        if not explained:
            yield from keys(whole, definitions, (*path, key), whole.get("default") if defined else None)
            if "properties" in defined:
                defined["explained"] = name


def shown(schema: dict[str, Any]) -> str:
    """A default as a reader writes it."""
    if "default" not in schema:
        return ""
    text = yaml.safe_dump(schema["default"], default_flow_style=True, width=10**6, allow_unicode=True)
    text = text.removesuffix("...\n").strip()
    if schema["default"] in ("", [], {}):
        return "empty"
    return "see config.yaml" if len(text) > 60 else f"`{text}`"


def filled(readme: str) -> str:
    """The README with every table between markers written anew."""

    def table(section: re.Match) -> str:
        schema = yaml.safe_load((SCHEMAS / f"{section[2]}.schema.yaml").read_text(encoding="utf-8"))
        what = "key" if section[2] == "config" else "column"
        rows = [f"| {what} | what it is | default |", "| --- | --- | --- |", *keys(schema, schema.get("$defs", {}))]
        return section[1] + "\n".join(rows) + "\n" + section[3]

    return SECTION.sub(table, readme)


if __name__ == "__main__":
    README.write_text(filled(README.read_text(encoding="utf-8")), encoding="utf-8")
