"""A headless browser that opens a page as its reader does."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

WINDOW = {"width": 1280, "height": 800}
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(
    not BROWSER,
    reason="opens pages in chromium, and finds none (make machine installs it on Debian)",
)


class Entry(NamedTuple):
    """An entry of a report, and what opening it shows."""

    category: str
    title: str
    kind: str
    """img, iframe for a page, or download."""
    box: dict[str, float]
    """x, y, width and height of what is shown, in pixels of the window."""


@contextmanager
def opened(path: Path):
    """A page in a window, and a list of what it complains of or asks the network for."""
    from playwright.sync_api import sync_playwright

    trouble: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page(viewport=WINDOW)
        page.on("console", lambda said: trouble.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("request", lambda asked: trouble.append(asked.url) if asked.url.startswith(("http", "ws")) else None)
        page.goto(path.as_uri())
        yield page, trouble
        browser.close()


def walk(page) -> Iterator[Entry]:
    """Open every entry of every category of Snakemake's report, in its order."""
    downloads: list = []
    page.on("download", lambda file: downloads.append(file))
    page.locator("nav a").first.wait_for()
    for category in [text for text in page.locator("nav a").all_inner_texts() if text[:1].isdigit()]:
        page.get_by_text(category, exact=True).first.click()
        page.locator("nav tbody tr").first.wait_for()
        for row in page.locator("nav tbody tr").all():
            title, before = row.inner_text().strip(), len(downloads)
            row.locator("a[iconname=eye]").click()
            page.wait_for_timeout(400)
            if len(downloads) > before:
                yield Entry(category, title, "download", {})
            else:
                shown = page.locator("#app > div > div").last.locator("img, iframe").first
                yield Entry(category, title, shown.evaluate("node => node.localName"), shown.bounding_box())
        page.locator("nav li a").first.click()
