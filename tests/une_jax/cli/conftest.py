"""Compiling is most of what these tests do."""

import pytest


@pytest.fixture(autouse=True)
def quick(quick_compiles):
    """All of them compile quickly."""
