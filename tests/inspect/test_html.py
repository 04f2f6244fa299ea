"""The page as text; what it does in a browser is tested in test_page_browser.py."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from importlib.resources import files
from typing import Any

import pytest
import torch

from endmark.inspect.html import html_page
from endmark.inspect.inspection import inspect, page_data
from endmark.inspect.source import Source


def make_data(rows: int = 3, columns: int = 7, n_agents: int = 2, name: str = "batch.npz") -> dict[str, Any]:
    filled = torch.ones(rows, columns, 1, dtype=torch.int64)
    terminated = torch.zeros(rows, columns, 1, dtype=torch.uint8)
    terminated[:, columns // 2] = 1
    tensors = {
        "filled": filled,
        "terminated": terminated,
        "reward": torch.randn(rows, columns, 1, generator=torch.Generator().manual_seed(0)),
        "actions": torch.randint(
            0, 14, (rows, columns, n_agents, 1), generator=torch.Generator().manual_seed(1)
        ),
    }
    source = Source(name, "padded batch", tensors)
    return page_data(source, inspect(source))


def embedded(page: str) -> Any:
    (text,) = re.findall(r'<script id="page-data" type="application/json">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)


def test_the_data_are_in_the_page() -> None:
    data = make_data()
    assert embedded(html_page(data)) == data


def test_32_by_121_is_small() -> None:
    assert len(html_page(make_data(32, 121, n_agents=8))) <= 400_000


def test_nothing_is_loaded() -> None:
    page = html_page(make_data())
    assert not re.search(r"""(?:src|href|action|srcset)\s*=|@import|url\(|\bimport\b|fetch\(|XMLHttp""", page)
    assert re.findall(r"https?://[^\"']*", page) == ["http://www.w3.org/2000/svg"]  # a name, not a place
    assert "{{" not in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)


def test_only_its_own_style_and_script_may_run() -> None:
    page = html_page(make_data())
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tag, directive in [("style", "style-src"), ('script type="module"', "script-src")]:
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag.split()[0]}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy


@pytest.mark.parametrize(
    "name",
    [
        "</script><script>alert(1)</script>",
        "<!--<script>",
        "{{script}}{{data}}",
        '"><img src=x onerror=alert(1)>',
        "a\u2028b\u2029c\x00",
        "批次.npz",
        "latin-\udce9.npz",  # how Python reads a file name that is not UTF-8
    ],
)
def test_a_foreign_name_stays_text(name: str) -> None:
    page = html_page(make_data(name=name))
    assert embedded(page)["source"] == name
    assert page.lower().count("<script") == 2
    assert page.lower().count("</script") == 2
    assert "<img" not in page
    assert "<!--" not in page
    assert page.isascii()


def test_numbers_that_json_lacks_become_words() -> None:
    data = make_data(rows=1)
    data["values"]["reward"] = [[float("nan"), float("inf"), float("-inf"), 1.5, None, None, None]]
    assert embedded(html_page(data))["values"]["reward"] == [["nan", "inf", "-inf", 1.5, None, None, None]]


def test_the_assets_are_ascii_where_a_character_reference_would_not_be_read() -> None:
    for asset in files("endmark.inspect").joinpath("page").iterdir():
        if asset.name.endswith((".js", ".css")):
            assert asset.read_text(encoding="utf-8").isascii(), asset.name
