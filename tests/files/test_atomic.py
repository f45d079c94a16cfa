import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from glico_augment.files import atomic
from glico_augment.files.atomic import check_writable, write_atomically

needs_posix = pytest.mark.skipif(os.name == "nt", reason="needs POSIX files")


def write(path, text="new"):
    def fill(partial):
        partial.write_text(text)

    write_atomically(path, fill)


def texts(folder):
    return {file.name: file.read_text() for file in folder.iterdir()}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("is_there", [True, False])
def test_a_writer_that_fails_leaves_the_old_file_and_no_partial_one(path, error, is_there):
    if is_there:
        path.write_text("old")

    def fail(partial):
        assert partial.parent == path.parent
        assert partial.suffix == path.suffix
        partial.write_text("half")
        raise error

    with pytest.raises(error):
        write_atomically(path, fail)
    assert texts(path.parent) == ({path.name: "old"} if is_there else {})


def run(script, *arguments):
    """Run a script in a process of its own."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])


FULL_DISK = """
import resource, signal, sys
from glico_augment.files.atomic import write_atomically
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
try:
    write_atomically(sys.argv[1], lambda partial: partial.write_bytes(bytes(100_000)))
except OSError as error:
    sys.exit(0 if f"{sys.argv[1]} cannot be written: File too large" == str(error) else str(error))
sys.exit("nothing was raised")
"""


@needs_posix
def test_a_full_disk_is_an_os_error_that_names_the_file_and_leaves_the_old_one(path):
    path.write_text("old")
    done = run(FULL_DISK, path)
    assert done.returncode == 0, done.stderr
    assert texts(path.parent) == {path.name: "old"}


KILLED = """
import os, signal, sys
from glico_augment.files.atomic import write_atomically
def fill(partial):
    partial.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
write_atomically(sys.argv[1], fill)
"""


@needs_posix
def test_what_a_killed_writer_left_is_removed_by_the_next_of_that_path_alone(path):
    other = path.with_name("model.checkpoint")
    names = []
    for victim in (path, other):
        assert run(KILLED, victim).returncode == -signal.SIGKILL
        names.append(max(path.parent.iterdir(), key=lambda file: file.stat().st_mtime_ns).name)
    assert texts(path.parent) == dict.fromkeys(names, "half")
    write(path)
    assert texts(path.parent) == {path.name: "new", names[1]: "half"}
    write(other)
    assert texts(path.parent) == {path.name: "new", other.name: "new"}


@needs_posix
def test_a_living_writer_keeps_its_partial_file_and_the_last_to_end_wins(path):
    def slow(partial):
        partial.write_text("slow")
        for _ in range(3):
            write(path, "quick")
            assert partial.read_text() == "slow"
        assert path.read_text() == "quick"

    write_atomically(path, slow)
    assert texts(path.parent) == {path.name: "slow"}


@needs_posix
def test_many_writers_of_one_path_at_a_time_all_succeed(path):
    def nest(depth):
        def fill(partial):
            partial.write_text(str(depth))
            if depth:
                nest(depth - 1)

        write_atomically(path, fill)

    nest(20)
    assert texts(path.parent) == {path.name: "20"}


@needs_posix
def test_a_writer_that_ends_while_another_looks_at_its_partial_file_does_not_cost_a_third_its_own(path, monkeypatch):
    flock = atomic.fcntl.flock
    partial, first = atomic._create(path)
    first.write(b"first")
    first.flush()
    third = []

    def lock_late(*arguments):
        """Between the look and the lock the first writer ends, and a third begins with a file of the same name."""
        monkeypatch.setattr(atomic.fcntl, "flock", flock)
        partial.replace(path)
        first.close()
        third.append(atomic._create(path))
        flock(*arguments)

    monkeypatch.setattr(atomic.fcntl, "flock", lock_late)
    second, file = atomic._create(path)
    file.close()
    [(name, file)] = third
    assert name == partial != second
    assert name.exists()
    assert path.read_text() == "first"
    file.close()


@needs_posix
def test_a_writer_that_has_renamed_its_file_leaves_the_next_one_its_own(path, monkeypatch):
    replace, others = Path.replace, []

    def replace_and_begin(partial, target):
        replace(partial, target)
        monkeypatch.setattr(Path, "replace", replace)
        others.append(atomic._create(path))

    monkeypatch.setattr(Path, "replace", replace_and_begin)
    write(path)
    [(name, file)] = others
    assert name.exists()
    file.close()


@needs_posix
def test_where_files_cannot_be_locked_they_are_written_and_nothing_is_removed(path, monkeypatch):
    def no_locks(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(atomic.fcntl, "flock", no_locks)

    def slow(partial):
        partial.write_text("slow")
        write(path, "quick")
        assert partial.read_text() == "slow"

    write_atomically(path, slow)
    assert texts(path.parent) == {path.name: "slow"}


def test_names_of_any_length_can_be_written(tmp_path):
    for name in ("x" * 240, "x" * 227 + ".safetensors", "a." + "x" * 238, "é" * 120, "." + "x" * 239):
        write(tmp_path / name, name)
    assert all(name == text for name, text in texts(tmp_path).items())
    with pytest.raises(OSError, match="cannot be written: File name too long"):
        write(tmp_path / ("x" * 256))


@needs_posix
def test_a_symbolic_link_stays_one_and_its_target_is_replaced(tmp_path):
    (tmp_path / "disk").mkdir()
    target = tmp_path / "disk" / "target"
    for existing in (True, False):
        if existing:
            target.write_text("old")
        link = tmp_path / f"link {existing}"
        link.symlink_to(target)
        write(link, str(existing))
        assert link.is_symlink()
        assert texts(target.parent) == {"target": str(existing)}
        target.unlink()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(OSError, match="cannot be written"):
        write(tmp_path / "loop")


@needs_posix
@pytest.mark.parametrize("act", [check_writable, write])
def test_a_device_and_a_pipe_are_left_as_they_are(tmp_path, act):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/null")
    for special in (tmp_path / "pipe", tmp_path / "link", Path("/dev/null")):
        with pytest.raises(OSError, match="is a device, pipe or socket, and is left as it is"):
            act(special)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    assert len(list(tmp_path.iterdir())) == 2


@needs_posix
@pytest.mark.parametrize("act", [check_writable, write])
def test_a_read_only_file_is_respected_by_root_as_well(path, act):
    path.write_text("old")
    path.chmod(0o444)
    with pytest.raises(PermissionError, match=r"is read-only\. Make it writable or give another name"):
        act(path)
    assert texts(path.parent) == {path.name: "old"}


@pytest.mark.parametrize("act", [check_writable, write])
def test_a_place_that_cannot_be_written_is_refused_at_once(tmp_path, act):
    with pytest.raises(IsADirectoryError, match="is a folder; give the name of a file"):
        act(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere"):
        act(tmp_path / "nowhere" / "model.safetensors")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot be written"):
        act(tmp_path / "file" / "model.safetensors")


@needs_posix
def test_a_folder_without_permission_is_refused(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o555)
    user = os.geteuid()
    try:
        if user == 0:  # which may write everywhere
            for parent in (tmp_path, *tmp_path.parents[:3]):
                parent.chmod(parent.stat().st_mode | 0o011)
            os.seteuid(65534)
        with pytest.raises(PermissionError, match="cannot be written: no file can be made in"):
            check_writable(folder / "model.safetensors")
    finally:
        os.seteuid(user)


def test_checking_leaves_no_file_and_no_change(path):
    path.write_text("old")
    check_writable(path)
    check_writable(path.with_name("new"))
    assert texts(path.parent) == {path.name: "old"}


@needs_posix
def test_a_new_file_has_the_permissions_of_any_and_a_replaced_one_keeps_its_own(path):
    write(path)
    (path.parent / "plain").touch()
    assert path.stat().st_mode == (path.parent / "plain").stat().st_mode
    path.chmod(0o600)
    write(path, "again")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_content_is_on_the_disk_before_it_has_the_name(path, monkeypatch):
    order = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: order.append(os.fstat(descriptor).st_size) or fsync(descriptor))
    monkeypatch.setattr(Path, "replace", lambda *paths: order.append("renamed") or replace(*paths))
    write(path, "text")
    assert order == [4, "renamed"]
