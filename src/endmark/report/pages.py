"""Self-contained HTML pages, of one look."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Mapping
from importlib.resources import files


def made_page(template: str, *, title: str, style: str, script: str, parts: Mapping[str, str]) -> str:
    """The template with its placeholders, such as `{{title}}`, filled. It loads nothing.

    style: of this page, behind what all pages share. script: a module. Their hashes are for the page's
    security policy, which lets nothing else run. parts: HTML for the further placeholders.

    The result is ASCII, so it can be written in any encoding, whatever a file's name.
    """
    style = asset("looks.css") + style
    filled = {
        "title": html.escape(title),
        "style": style,
        "style_hash": _hash(style),
        "script": script,
        "script_hash": _hash(script),
        **parts,
    }
    # One pass over the template: placeholders inside inserted text stay as they are.
    page = re.sub(r"\{\{(\w+)\}\}", lambda match: filled[match[1]], template)
    return page.encode("ascii", "xmlcharrefreplace").decode("ascii")


def asset(name: str) -> str:
    """A file of `report/page/`."""
    return files("endmark.report").joinpath("page", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
