import io
import os
import random
import shutil
import struct
import subprocess
import tarfile

import pytest

from une_jax.errors import UneError
from une_jax.sources import tar

FORMATS = {
    "ustar": tarfile.USTAR_FORMAT,
    "gnu": tarfile.GNU_FORMAT,
    "pax": tarfile.PAX_FORMAT,
}


def pack(path, files, **options):
    """A tar by Python's own library; values are bytes, or TarInfo to be added alone."""
    with tarfile.open(path, "w", **options) as archive:
        for name, data in files.items():
            if isinstance(data, tarfile.TarInfo):
                archive.addfile(data)
            else:
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return path


def special(kind, name="a.jpg", target="b.jpg"):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def read(path):
    """The names and bytes of all files, as `tar.members` finds them."""
    handle = os.open(path, os.O_RDONLY)
    try:
        return {m.name: os.pread(handle, m.size, m.offset) for m in tar.members(handle)}
    finally:
        os.close(handle)


def refusal(path):
    with pytest.raises(UneError) as error:
        read(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def header(path, start, field, at=0):
    """Writes a field into a header, and the sum that then is right."""
    data = bytearray(path.read_bytes())
    block = data[at : at + 512]
    block[start : start + len(field)] = field
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    data[at : at + 512] = block
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 5000])
def test_members_are_where_tarfile_puts_them(tmp_path, form, size):
    files = {f"deep/{i}.jpg": bytes([i]) * (size + i) for i in range(9)}
    path = pack(tmp_path / "a.tar", files, format=FORMATS[form])
    assert read(path) == files


@pytest.mark.parametrize("form", FORMATS)
def test_long_names_and_names_of_all_alphabets(tmp_path, form):
    files = {
        f"{'x' * 90}/{'y' * 90}.jpg": b"long",
        "été/日本.jpg": b"far",
        "with space.jpg": b"near",
    }
    if form != "ustar":
        files["z" * 3000 + ".jpg"] = b"longer than a header has room for"
    path = pack(tmp_path / "a.tar", files, format=FORMATS[form])
    assert read(path) == files


@pytest.mark.parametrize("form", ["v7", "oldgnu", "gnu", "ustar", "posix"])
def test_what_gnu_tar_writes_is_read(tmp_path, form):
    assert shutil.which("tar"), "the tests need GNU tar"
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    files = {"a.jpg": b"1" * 700, "sub/b.json": b"{}", "sub/" + "n" * 80: b""}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    subprocess.run(
        ["tar", f"--format={form}", "-cf", tmp_path / "a.tar", "-C", folder, "."],
        check=True,
    )
    assert read(tmp_path / "a.tar") == files


def test_extended_headers_of_a_whole_archive_are_passed_over(tmp_path):
    path = tmp_path / "a.tar"
    pack(path, {"a.jpg": b"x"}, format=tarfile.PAX_FORMAT, pax_headers={"comment": "y"})
    assert read(path) == {"a.jpg": b"x"}


def test_sizes_beyond_eight_gigabytes_are_understood(tmp_path):
    path = pack(tmp_path / "a.tar", {"a.jpg": b"x"})
    header(path, 124, b"\x80" + (2**40).to_bytes(11, "big"))
    assert refusal(path) == "header at byte 0: 1,099,511,627,776 bytes do not fit into the file"  # fmt: skip
    header(path, 124, b"\x80" + (1).to_bytes(11, "big"))
    assert read(path) == {"a.jpg": b"x"}


def test_an_extended_size_is_that_of_the_member(tmp_path):
    member = tarfile.TarInfo("a.jpg")
    member.size, member.pax_headers = 3, {"size": "3"}
    data = member.tobuf(tarfile.PAX_FORMAT) + b"abc" + bytes(509) + bytes(1024)
    path = tmp_path / "a.tar"
    path.write_bytes(data)
    header(path, 124, b"00000000000\0", at=1024)
    assert read(path) == {"a.jpg": b"abc"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/etc/passwd", "'/etc/passwd' leads out of the archive"),
        ("../a.jpg", "'../a.jpg' leads out"),
        ("a/../../b.jpg", "leads out"),
        ("./../b.jpg", "'../b.jpg' leads out"),
        (".//b.jpg", "'/b.jpg' leads out"),
        ("a/..", "leads out"),
    ],
)
@pytest.mark.parametrize("form", FORMATS)
def test_names_that_lead_out_are_refused(tmp_path, name, message, form):
    path = tmp_path / "a.tar"
    member = tarfile.TarInfo("x")
    member.name = name  # tarfile would strip the slash
    data = member.tobuf(FORMATS[form]) + bytes(1024)
    path.write_bytes(data)
    assert message in refusal(path)


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (tarfile.SYMTYPE, "a symbolic link"),
        (tarfile.LNKTYPE, "a hard link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.FIFOTYPE, "a pipe"),
        (tarfile.GNUTYPE_SPARSE, "a sparse file"),
        (b"D", "of type b'D'"),
    ],
)
def test_members_that_are_no_plain_files_are_refused(tmp_path, kind, what):
    path = pack(tmp_path / "a.tar", {"b.jpg": b"x", "a.jpg": special(kind)})
    assert refusal(path) == f"'a.jpg' is {what}; only plain files are read"


def test_links_with_long_targets_are_refused_too(tmp_path):
    link = special(tarfile.SYMTYPE, target="t" * 300)
    for form in FORMATS.values():
        path = tmp_path / "a.tar"
        if form != tarfile.USTAR_FORMAT:
            pack(path, {"a.jpg": link}, format=form)
            assert "'a.jpg' is a symbolic link" in refusal(path)


def test_sparse_files_in_extended_headers_are_refused(tmp_path):
    member = tarfile.TarInfo("a.jpg")
    member.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.name": "b.jpg"}
    pack(tmp_path / "a.tar", {"a.jpg": member}, format=tarfile.PAX_FORMAT)
    assert "a sparse file; only plain files" in refusal(tmp_path / "a.tar")


def test_a_name_that_occurs_twice_is_refused(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in ("a.jpg", "b.jpg", "./a.jpg"):
            archive.addfile(tarfile.TarInfo(name))
    assert refusal(tmp_path / "a.tar") == "'a.jpg' is in it twice"


def test_a_name_that_is_not_utf8_is_refused(tmp_path):
    pack(tmp_path / "a.tar", {"a\udcff.jpg": b"x"}, format=tarfile.GNU_FORMAT)
    assert "is not UTF-8" in refusal(tmp_path / "a.tar")


def test_sizes_beyond_the_end_of_the_file_are_refused(tmp_path):
    path = pack(tmp_path / "a.tar", {"a.jpg": b"x", "b.jpg": b"y"})
    header(path, 124, b"77777777777\0", at=1024)
    assert "at byte 1024: 8,589,934,591 bytes do not fit" in refusal(path)


@pytest.mark.parametrize(
    "size", [b"-0000000001\0", b"0000000009\0", b"1_0\0\0\0\0\0\0\0\0\0", b"\xff" * 12, b"+1\0"]
)  # fmt: skip
def test_sizes_that_are_no_numbers_are_refused(tmp_path, size):
    path = header(pack(tmp_path / "a.tar", {"a.jpg": b"x"}), 124, size)
    assert "header at byte 0: damaged, or no tar file" in refusal(path)


def test_names_of_megabytes_are_refused_unread(tmp_path):
    member = tarfile.TarInfo("n" * 100_000)
    pack(tmp_path / "a.tar", {"a": member}, format=tarfile.GNU_FORMAT)
    assert "a name of 100,001 bytes" in refusal(tmp_path / "a.tar")


@pytest.mark.parametrize(
    "records",
    [b"", b"7 a=b", b"99 path=a\n", b"0 path=a\n", b"x path=a\n", b"10 path=ab\n",
     b"9 path a\n", b"-9 path=a\n", b"9" * 60, b"10 size=-1\n",
     b"40 size=11111111111111111111111111111111\n"],
)  # fmt: skip
def test_malformed_extended_headers_are_refused_or_empty(tmp_path, records):
    extended = tarfile.TarInfo("x")
    extended.type, extended.size = tarfile.XHDTYPE, len(records)
    padding = bytes(-len(records) % 512)
    data = extended.tobuf(tarfile.USTAR_FORMAT) + records + padding
    data += tarfile.TarInfo("a.jpg").tobuf(tarfile.USTAR_FORMAT) + bytes(1024)
    (tmp_path / "a.tar").write_bytes(data)
    if records:
        assert "header at byte 0: " in refusal(tmp_path / "a.tar")
    else:
        assert read(tmp_path / "a.tar") == {"a.jpg": b""}


def test_archives_that_were_cut_short_are_refused_wherever_it_was(tmp_path):
    path = pack(tmp_path / "a.tar", {f"{i}.jpg": bytes(700) for i in range(3)})
    whole = path.read_bytes()
    last = 3 * (512 + 1024)  # where the end begins
    for length in (0, 100, 511, 512, 513, 1536, 2000, 3072, last - 1, last, last + 511):
        path.write_bytes(whole[:length])
        message = refusal(path)
        assert "cut short" in message or "do not fit into the file" in message
    path.write_bytes(whole[: last + 512])
    assert len(read(path)) == 3


def test_damage_between_members_is_no_end(tmp_path):
    path = pack(tmp_path / "a.tar", {f"{i}.jpg": b"x" for i in range(3)})
    data = bytearray(path.read_bytes())
    data[1024] ^= 1
    path.write_bytes(data)
    with tarfile.open(path) as archive:
        assert archive.getnames() == ["0.jpg"]  # why we read headers on our own
    assert "header at byte 1024: damaged" in refusal(path)


def test_an_end_within_an_archive_is_refused(tmp_path):
    first = pack(tmp_path / "a.tar", {"a.jpg": b"x"})
    second = pack(tmp_path / "b.tar", {"b.jpg": b"y"})
    first.write_bytes(first.read_bytes() + second.read_bytes())
    assert "goes on after its end, as do joined archives" in refusal(first)


@pytest.mark.parametrize("mode", ["gz", "xz"])
def test_compressed_archives_and_other_files_are_refused(tmp_path, mode):
    with tarfile.open(tmp_path / "a.tar", f"w:{mode}") as archive:
        member = tarfile.TarInfo("a.jpg")
        member.size = 5000
        archive.addfile(member, io.BytesIO(random.Random(0).randbytes(5000)))
    assert "no tar file (compressed ones are to be unpacked)" in refusal(tmp_path / "a.tar")  # fmt: skip
    (tmp_path / "b.tar").write_bytes(b"hello" * 1000)
    assert "no tar file" in refusal(tmp_path / "b.tar")


def test_payloads_are_not_read(tmp_path, monkeypatch):
    path = pack(tmp_path / "a.tar", {f"{i}.jpg": bytes(10**6) for i in range(20)})
    taken, pread = [], os.pread

    def counted(handle, size, at):
        data = pread(handle, size, at)
        taken.append(len(data))
        return data

    monkeypatch.setattr(os, "pread", counted)
    handle = os.open(path, os.O_RDONLY)
    assert len([*tar.members(handle)]) == 20
    os.close(handle)
    assert sum(taken) < 200_000


def test_flipped_bytes_never_raise_anything_but_our_error(tmp_path):
    files = {f"{'d' * 60}/{'é' * 40}{i}.jpg": bytes([i]) * 30 for i in range(4)}
    chance, refused, path = random.Random(0), 0, tmp_path / "a.tar"
    for form in FORMATS.values():
        whole = pack(path, files, format=form).read_bytes()[: 20 * 512]
        for _ in range(300):
            bad = bytearray(whole)
            for _ in range(chance.randint(1, 3)):
                bad[chance.randrange(len(bad))] = chance.randrange(256)
            at = chance.randrange(0, len(bad), 512)
            if chance.random() < 0.7 and bad[at : at + 512].strip(b"\0"):
                block = bad[at : at + 512]  # so that damage is not just a wrong sum
                block[chance.choice((0, 124, 130, 156, 257, 345))] = chance.randrange(256)  # fmt: skip
                block[148:156] = b" " * 8
                block[148:156] = struct.pack("8s", b"%06o\0 " % sum(block))
                bad[at : at + 512] = block
            path.write_bytes(bad)
            try:
                read(path)
            except UneError:
                refused += 1
    assert refused > 300
