"""One bit of one byte is wrong, whichever it is: `verify` names the file."""

import flips
import little
import pytest
from effort import effort

from une_jax import zoo
from une_jax.errors import UneError
from une_jax.zoo.manifest import record_name, table_name, tensors_name

FILES = ("manifest.json", record_name(1), tensors_name(0), table_name(0))


@pytest.mark.parametrize("file", FILES)
def test_each_byte_matters(light, file):
    result = light.call(flips.every_byte, file, effort(4, 1))
    assert result["wrong"] == []
    assert result["flipped"] > 100


def test_rows_of_another_version_are_not_taken_for_these(tmp_path):
    """A sound file, as from a backup, but not the one that was committed."""
    old, new = tmp_path / "old", tmp_path / "new"
    for path, version in ((old, 0), (new, 1)):
        zoo.create(path, little.manifest())
        little.commit(zoo.Writer(path), 0, version)
    name = table_name(0)
    (old / name).write_bytes((new / name).read_bytes())
    assert [p for p in zoo.verify(old) if p.startswith(f"{name}: ")]
    for question in (lambda z: z.all_rows, lambda z: z["sd"][:], lambda z: z.keys):
        with pytest.raises(UneError, match=name):
            question(zoo.open(old))


def test_statuses_that_changed_places_are_not_believed(tmp_path):
    """As many rows are ok as before, in a file of the same size."""
    path = tmp_path / "zoo"
    flips.build(path)
    file = path / table_name(0)
    one, other = b"\x02\0\0\0ok", b"\x06\0\0\0failed"
    assert file.read_bytes().count(one + other) == 1
    file.write_bytes(file.read_bytes().replace(one + other, other + one))
    with pytest.raises(UneError, match=table_name(0)):
        zoo.open(path)["sd"][:]
