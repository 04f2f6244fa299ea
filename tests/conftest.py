"""Shapes and types in signatures are checked while the tests run, which needs a hook before any import."""

import pytest
import torch
from hypothesis import settings
from jaxtyping import install_import_hook

install_import_hook("endmark", "beartype.beartype")
pytest.register_assert_rewrite("support")
pytest_plugins = ["support.native_cases", "support.browser"]  # their fixtures

torch.set_num_threads(1)

# derandomize: the same examples in every run, so that a red test is red for everybody.
settings.register_profile("endmark", deadline=None, max_examples=40, derandomize=True)
settings.load_profile("endmark")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with a slow test come first, so that no process is left alone with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
