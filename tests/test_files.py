from __future__ import annotations

from pathlib import Path

import pytest

from cluster.store.files import atomic_file, atomic_write, fsync_tree


def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    for content in (b"first", b"second"):
        atomic_write(path, content)
        assert path.read_bytes() == content
        assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("durable", [True, False])
def test_a_write_that_fails_leaves_the_old_content(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "table.json"
    path.write_bytes(b"old")

    def fail_half_way() -> None:
        with atomic_file(path, durable=durable) as partial:
            partial.write_bytes(b"half of the n")
            assert partial.suffix == ".json"
            assert path.read_bytes() == b"old"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_tree_with_empty_folders_and_files_is_made_durable(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/c").write_bytes(b"")
    fsync_tree(tmp_path)
    with pytest.raises(FileNotFoundError):
        fsync_tree(tmp_path / "missing")
