"""The frame of the pages that a run writes: one HTML document that loads nothing and escapes what it is given."""

from typing import Any

import jinja2

HEAD = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{{ title }}</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; color: #1a1a1a; margin: 1.5rem; }
"""


def render_page(title: str, style: str, body: str, **values: Any) -> str:
    """A whole page.

    Args:
        style: CSS rules.
        body: a jinja2 template of what stands in the page; `values` are what it names.
    """
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = f"{HEAD}{style}</style>\n<h1>{{{{ title }}}}</h1>\n{body}</html>\n"
    return environment.from_string(template).render(title=title, **values)
