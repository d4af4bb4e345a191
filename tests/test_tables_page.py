"""The page of tables: every table but the longest, escaped, and nothing from a network."""

import re

import pandas as pd

from refusal_cliff import tables_page


def test_the_page_has_every_table_but_the_longest_and_loads_nothing():
    tables = {
        "rates": pd.DataFrame({"model": ["cliff-s0", "<script>alert(1)</script>"], "value": [0.123456, None]}),
        "curve": pd.DataFrame({"x": range(tables_page.MOST_ROWS + 1)}),
    }
    page = tables_page.page(tables)
    assert 'id="table_rates"' in page and 'id="table_curve"' not in page
    assert "<code>curve.csv</code> has 20,001 rows and is not shown" in page
    assert "cliff-s0" in page and "0.123" in page
    assert "<script>alert(1)</script>" not in page
    assert not re.search(r"(?:src|href)=[\"']?https?://(?!itables\.org)|@import", page)
