"""One bit of one byte is wrong, whichever it is: `verify` names the file."""

import flips
import pytest
from effort import effort

from une_jax.zoo.manifest import record_name, table_name, tensors_name

FILES = ("manifest.json", record_name(1), tensors_name(0), table_name(0))


@pytest.mark.parametrize("file", FILES)
def test_each_byte_matters(light, file):
    result = light.call(flips.every_byte, file, effort(4, 1))
    assert result["wrong"] == []
    assert result["flipped"] > 100
