"""A file is the old one or the new one, never half of it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from esper.leyline.atomic import atomic_directory, atomic_write


def test_the_new_file_replaces_the_old_one_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with atomic_write(target) as file:
        file.write(b"new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert [*tmp_path.iterdir()] == [target]


def test_an_error_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises(ValueError, match="half"), atomic_write(target) as file:  # noqa: PT012 - the point
        file.write(b"ne")
        raise ValueError("half")
    assert target.read_text() == "old"
    assert [*tmp_path.iterdir()] == [target]


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_umask_is_respected(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        with atomic_write(tmp_path / "file") as file:
            file.write(b"new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "real").write_text("old")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "there" / "real")
    with atomic_write(link) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert (tmp_path / "there" / "real").read_text() == "new"


def test_what_is_no_ordinary_file_is_written_directly() -> None:
    with atomic_write("/dev/null") as file:
        file.write(b"new")
    assert not stat.S_ISREG(Path("/dev/null").stat().st_mode)


def test_a_file_system_without_fsync_of_directories_is_good_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def only_files(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(22, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", only_files)
    with atomic_write(tmp_path / "file") as file:
        file.write(b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


# --- a directory -----------------------------------------------------------------------------------------------------


def test_a_directory_appears_when_everything_is_in_it(tmp_path: Path) -> None:
    with atomic_directory(tmp_path / "a" / "new") as directory:
        (directory / "deep").mkdir()
        (directory / "deep" / "file").write_text("all of it")
        assert not (tmp_path / "a" / "new").exists()
    assert (tmp_path / "a" / "new" / "deep" / "file").read_text() == "all of it"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["new"]


def test_a_file_of_the_directory_s_name_takes_its_place(tmp_path: Path) -> None:
    with atomic_directory(tmp_path / "one.db") as directory:
        (directory / "one.db").write_text("all of it")
    assert (tmp_path / "one.db").read_text() == "all of it"


def test_a_directory_that_was_not_finished_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), atomic_directory(tmp_path / "new") as directory:  # noqa: PT012 - the point
        (directory / "file").write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_directory_takes_nobody_s_place(tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    with pytest.raises(FileExistsError, match="there exists"), atomic_directory(tmp_path / "there"):
        pass
    with pytest.raises(NotADirectoryError, match="there is no directory"), atomic_directory(tmp_path / "there" / "new"):
        pass
    with pytest.raises(FileExistsError, match="made in the meantime"), atomic_directory(tmp_path / "new") as directory:  # noqa: PT012 - the point
        (directory / "file").write_text("mine")
        (tmp_path / "new").mkdir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "there"]
    assert list((tmp_path / "new").iterdir()) == []
