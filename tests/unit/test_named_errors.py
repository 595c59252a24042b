"""What goes wrong while a file is written or remote storage is asked names the path."""

import errno
import os
import threading

import pytest

from olmrl import storage
from olmrl.door import behind_door
from olmrl.errors import RemoteError
from olmrl.mix import files


def full():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_write_on_a_full_disk_names_its_file_and_leaves_nothing(tmp_path, capsys):
    def atomic():
        with storage.atomic_open(tmp_path / "a") as stream:
            stream.write(b"half")
            full()

    def staged():
        with files.staged(str(tmp_path / "b")) as local:
            with open(local, "wb") as stream:
                stream.write(b"half")
            full()

    for work, name in ((atomic, "a"), (staged, "b")):
        assert behind_door("olmrl x", work) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"olmrl x: {tmp_path / name}: No space left on device; free space")
        assert not list(tmp_path.iterdir())


def test_a_device_is_written_and_not_replaced(capsys):
    for work in (
        lambda: storage.write_bytes("/dev/full", b"x"),
        lambda: storage.write_json("/dev/full", {}),
    ):
        assert behind_door("olmrl x", work) == 2
        assert capsys.readouterr().err.startswith("olmrl x: /dev/full: No space left on device")
    storage.write_bytes("/dev/null", b"x")
    assert not os.path.isfile("/dev/full") and not os.path.isfile("/dev/null")


def test_a_pipe_is_written_and_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    found = []
    reader = threading.Thread(target=lambda: found.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    storage.write_text(tmp_path / "pipe", "words")
    reader.join()
    assert found == [b"words"] and not (tmp_path / "pipe").is_file()


def client_error():
    return type("EndpointError", (Exception,), {"__module__": "botocore.exceptions"})("no answer")


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (client_error(), RemoteError, "s3://b/k: cannot be used: no answer"),
        (FileNotFoundError("b/k"), FileNotFoundError, "s3://b/k: b/k"),
        (PermissionError(errno.EACCES, "Forbidden"), PermissionError, "s3://b/k"),
    ],
)
def test_an_error_of_remote_storage_names_the_path(capsys, error, kind, said):
    def work():
        with storage.named("s3://b/k"):
            raise error

    with pytest.raises(kind):
        work()
    assert behind_door("olmrl x", work) == 2
    assert capsys.readouterr().err.startswith(f"olmrl x: {said}")


def test_other_errors_stay_as_they_are():
    with pytest.raises(KeyError), storage.named("s3://b/k"):
        raise KeyError("k")
    with pytest.raises(FileNotFoundError) as caught, storage.named("here"):
        os.stat("/nowhere")
    assert caught.value.filename == "/nowhere"
