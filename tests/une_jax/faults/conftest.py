"""A fixture for the tests of what can go wrong."""

import light as _light
import pytest


@pytest.fixture(scope="session")
def light():
    """A process that may fork, see `light.Light`."""
    process = _light.Light()
    yield process
    process.close()
