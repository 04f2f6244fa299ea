"""The self-contained HTML page of a padded batch, made from the dictionary of `page_data`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from endmark.report.pages import made_page

_SCRIPTS = ("masks.js", "tiles.js", "picture.js", "numbers.js", "playground.js", "page.js")


def html_page(data: Mapping[str, Any]) -> str:
    """The page as text. It loads nothing, and its security policy lets only its own script run.

    data: the dictionary of `page_data`; KeyError without `source`. Its strings are untrusted, such as a
    file's name, and reach the page as text only. NaN and infinities, which JSON lacks, become strings.

    The result is ASCII, so it can be written in any encoding, whatever the file's name.
    """
    return made_page(
        _asset("page.html"),
        title=f"{data['source']} - endmark",
        style=_asset("page.css"),
        script="\n".join(_asset(name) for name in _SCRIPTS),
        parts={"data": _json(data)},
    )


def _json(data: Mapping[str, Any]) -> str:
    """JSON that is safe inside a <script> element: it contains no tag and no comment."""
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


def _asset(name: str) -> str:
    return files("endmark.inspect").joinpath("page", name).read_text(encoding="utf-8")
