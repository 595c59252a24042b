import os

import pytest

from olmrl import storage


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    storage.write_text(path, "old")
    with pytest.raises(RuntimeError), storage.atomic_open(path, "w") as stream:
        stream.write("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_written_file_has_the_rights_of_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    storage.write_text(tmp_path / "written", "x")
    assert (tmp_path / "written").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_jsonl_errors_name_file_and_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n\n{"a": \n')
    with pytest.raises(ValueError, match=r"a.jsonl, line 3"):
        list(storage.read_jsonl(path))


def test_text_that_is_not_utf8_names_the_byte(tmp_path):
    path = tmp_path / "a.md"
    path.write_bytes(b"ab\xff")
    with pytest.raises(ValueError, match=r"a.md.*byte 2"):
        storage.read_text(path)


def test_listing_follows_symlinked_folders_in_order(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "b.pdf").touch()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a.pdf").touch()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "real")
    names = [p.removeprefix(str(tmp_path)) for p in storage.list_files(tmp_path / "root", ".pdf")]
    assert names == ["/root/a.pdf", "/root/link/b.pdf"]
    with pytest.raises(ValueError, match="no such folder"):
        storage.list_files(tmp_path / "nowhere")


def test_links_back_to_a_folder_they_lie_in_are_not_followed(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.md").touch()
    (tmp_path / "a" / "other").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "other").symlink_to(tmp_path / "a")
    (tmp_path / "b" / "up").symlink_to(tmp_path)
    names = [p.removeprefix(str(tmp_path)) for p in storage.list_files(tmp_path)]
    assert names == ["/a/a.md", "/a/other/b.md", "/b/b.md", "/b/other/a.md"]


def test_remote_paths_work_through_fsspec():
    storage.write_json("memory://box/a.json", {"x": 1})
    assert storage.exists("memory://box/a.json")
    assert '"x": 1' in storage.read_text("memory://box/a.json")
    assert storage.join("s3://bucket/a/", "b", "c") == "s3://bucket/a/b/c"
    with pytest.raises(RuntimeError), storage.atomic_open("memory://box/a.json", "w") as stream:
        stream.write("half")
        raise RuntimeError
    assert '"x": 1' in storage.read_text("memory://box/a.json")
    with pytest.raises(ValueError, match="nope://"):
        storage.read_bytes("nope://x/y")
