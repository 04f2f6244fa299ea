"""A browser for the pages' tests: Debian's chromium, driven by playwright. One for each process."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """The browser; tests that want it are skipped, and say so, where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="THE PAGE IS NOT TESTED: playwright is missing")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("THE PAGE IS NOT TESTED: no chromium found; run tools/install-chromium.sh")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()
