"""Files: what is read, what is refused before it is read, and that a file is written whole or not at all."""

import errno
import io
import os
import re

import pytest

from jaxbp.experiments.common.files import is_one_of, opened, read_bytes, read_up_to, write_whole


def pipe(path):
    os.mkfifo(path)


REFUSED = [
    # what makes it, and what is said of it
    (pipe, "is a pipe, a device or the like, expected an ordinary file"),
    (lambda path: path.symlink_to("/dev/zero"), "is a pipe, a device or the like, expected an ordinary file"),
    (lambda path: path.write_bytes(bytes(11)), "holds 11 bytes, more than the 10 that are read; hand in less"),
    (lambda path: path.symlink_to("/proc/self/status"), "holds more than the 10 bytes that are read; hand in less"),
]


@pytest.mark.parametrize(("make", "says"), REFUSED)
def test_what_never_ends_or_is_too_large_is_refused(tmp_path, make, says):
    path = tmp_path / "file"
    make(path)
    with pytest.raises(ValueError, match=f"^{re.escape(f'{path} {says}')}$"):
        read_bytes(path, 10)


def test_an_ordinary_file_and_a_link_to_it(tmp_path):
    (tmp_path / "file").write_bytes(b"0123456789")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    for name in ("file", "link"):
        assert read_bytes(tmp_path / name, 10) == b"0123456789"
        with opened(tmp_path / name) as file:
            assert (file.seek(4), file.read()) == (4, b"456789")
    for missing, error in (("none", FileNotFoundError), ("", IsADirectoryError)):
        with pytest.raises(error):
            read_bytes(tmp_path / missing)


def test_what_cannot_be_read_is_named(tmp_path):
    (tmp_path / "file").symlink_to("/proc/self/mem")  # an ordinary file for the system, but nothing is at its start
    with pytest.raises(OSError, match=f"Input/output error, while reading: '{tmp_path / 'file'}'"):
        read_bytes(tmp_path / "file")


def test_a_stream_is_read_up_to_a_size():
    stream = io.BytesIO(bytes(2**20))
    assert (len(read_up_to(stream, 2**20 - 1)), len(read_up_to(stream, 2**40))) == (2**20 - 1, 1)


@pytest.mark.parametrize("content", ["δ\n", b"\xff\x00"])
def test_a_file_is_written_in_the_place_of_another(tmp_path, content):
    expected = content.encode() if isinstance(content, str) else content
    path = tmp_path / "file"
    for _ in range(2):
        write_whole(path, content)
        assert path.read_bytes() == expected
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    ordinary = tmp_path / "ordinary"
    ordinary.touch()
    assert path.stat().st_mode == ordinary.stat().st_mode


def test_no_link_leads_to_what_is_overwritten(tmp_path):
    kept = tmp_path / "kept"
    kept.write_text("old")
    (tmp_path / "soft").symlink_to(kept)
    (tmp_path / "hard").hardlink_to(kept)
    for name in ("soft", "hard"):
        assert is_one_of(tmp_path / name, [tmp_path / "none", kept])
        write_whole(tmp_path / name, "new")
        assert ((tmp_path / name).read_text(), kept.read_text()) == ("new", "old")
        assert not is_one_of(tmp_path / name, [tmp_path / "none", kept])
    assert not is_one_of(tmp_path / "none", [tmp_path / "none"])


@pytest.mark.parametrize("make", [pipe, lambda path: path.symlink_to("/dev/null"), lambda path: path.mkdir()])
def test_only_an_ordinary_file_is_written_over(tmp_path, make):
    make(tmp_path / "file")
    with pytest.raises(ValueError, match=r"file is a .*, expected an ordinary file"):
        write_whole(tmp_path / "file", "")


def test_a_full_disk_leaves_what_was_there_and_is_named(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=f"No space left on device, while writing: '{path}'"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    with pytest.raises(FileNotFoundError, match="none/file"):
        write_whole(tmp_path / "none" / "file", "")
    with pytest.raises(NotADirectoryError, match="file/file"):
        write_whole(path / "file", "")
