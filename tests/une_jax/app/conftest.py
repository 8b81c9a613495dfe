"""The patterns as files, and their zoo, made once."""

import pytest
from tiny import make_images, make_zoo


@pytest.fixture(scope="session")
def patterns(tmp_path_factory):
    return make_images(tmp_path_factory.mktemp("app") / "patterns")


@pytest.fixture(scope="session")
def opened(tmp_path_factory):
    return make_zoo(tmp_path_factory.mktemp("app") / "zoo")
