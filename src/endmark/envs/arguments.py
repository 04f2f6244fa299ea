"""Arguments of an environment's constructor, as the command line gives them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any


def arguments(texts: Iterable[str]) -> dict[str, Any]:
    """Keyword arguments from `key=value` texts. A value is JSON, or else a string: 3, true, "3", 3rd.

    ValueError for a text that is none.
    """
    given: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.isidentifier():
            raise ValueError(f"env_arg: given '{text}', want key=value")
        try:
            given[key] = json.loads(value)
        except ValueError:
            given[key] = value
        except RecursionError:
            raise ValueError(f"env_arg: {key}: given JSON that is nested too deeply") from None
    return given
