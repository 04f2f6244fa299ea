"""One self-contained page that shows a padded batch, from the dictionary that `page_data` makes."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

_SCRIPTS = ("masks.js", "tiles.js", "picture.js", "numbers.js", "playground.js", "page.js")


def html_page(data: Mapping[str, Any]) -> str:
    """The page as text: nothing is loaded from anywhere, and no code but the page's own may run on it.

    data: what `page_data` returns; KeyError without its `source`. Strings in it are foreign (a file's name,
    say) and reach the page as text only. Numbers that are not finite, which JSON lacks, become strings.
    The result is ASCII, so that it can be written in any encoding and with any file name in it.
    """
    style = _asset("page.css")
    script = "\n".join(_asset(name) for name in _SCRIPTS)
    parts = {
        "title": html.escape(f"{data['source']} - endmark"),
        "style": style,
        "style_hash": _hash(style),
        "script": script,
        "script_hash": _hash(script),
        "data": _json(data),
    }
    # One pass over the template alone: what is put in is not looked through for placeholders again.
    page = re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _asset("page.html"))
    return page.encode("ascii", "xmlcharrefreplace").decode("ascii")


def _json(data: Mapping[str, Any]) -> str:
    """JSON that can stand in a <script>: no end tag and no comment can open in it."""
    try:
        text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    except ValueError:
        text = json.dumps(_finite(data), allow_nan=False, separators=(",", ":"))
    return text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")


def _finite(value: Any) -> Any:
    """The same value with NaN and infinities as strings."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _asset(name: str) -> str:
    return files("endmark.inspect").joinpath("page", name).read_text(encoding="utf-8")
