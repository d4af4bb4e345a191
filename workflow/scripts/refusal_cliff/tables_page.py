"""All tables of a run on one page, to be sorted and searched: one HTML document that loads nothing."""

from collections.abc import Mapping

import pandas as pd

from refusal_cliff.pages import render_page

MOST_ROWS = 20_000
"""Rows of a table that a browser is given; what is longer is a curve, which a figure shows."""


def page(tables: Mapping[str, pd.DataFrame]) -> str:
    """The page: an entry for each table, by DataTables (https://datatables.net), which package itables brings along.

    Args:
        tables: by name. Numbers are shown with three significant digits.
    """
    from itables import options
    from itables.javascript import generate_init_offline_itables_html, to_html_datatable

    shown = {name: table for name, table in tables.items() if len(table) <= MOST_ROWS}
    with pd.option_context("display.float_format", "{:.3g}".format):
        bodies = {
            name: to_html_datatable(
                table, connected=False, maxBytes=0, table_id=f"table_{name}", showIndex=False, column_filters="footer"
            )
            for name, table in shown.items()
        }
    return render_page(
        TITLE,
        STYLE,
        BODY,
        library=generate_init_offline_itables_html(options.dt_bundle),
        bodies=bodies,
        left_out={name: f"{len(table):,}" for name, table in tables.items() if name not in shown},
    )


TITLE = "Tables"
STYLE = """\
nav a { margin-right: 1rem; white-space: nowrap; }
tfoot input { width: 6rem; }
h2 { margin-top: 2.5rem; font-size: 1.1rem; }
"""
BODY = """\
{{ library|safe }}
<p>Click a heading to sort, type under a column to search it. Three significant digits are shown; the CSV file of the
same name in <code>tables/</code> has six.
{% for name, rows in left_out.items() %}
<code>{{ name }}.csv</code> has {{ rows }} rows and is not shown.
{% endfor %}
</p>
<nav>
{% for name in bodies %}
<a href="#{{ name }}">{{ name }}</a>
{% endfor %}
</nav>
{% for name, body in bodies.items() %}
<h2 id="{{ name }}">{{ name }}</h2>
{{ body|safe }}
{% endfor %}
"""
