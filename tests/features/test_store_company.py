"""Several users of one home: what one leaves, the other can read, wait for and carry on from."""

import fcntl
import multiprocessing
import os
import shutil
import stat
import tempfile
from pathlib import Path

import pytest

from features.store.locks import lock_digest

_FORK = multiprocessing.get_context("fork")
NOBODY = 65534
needs_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs another user")


@pytest.fixture(params=[0o777, 0o1777], ids=["shared", "sticky"])
def shared(request):
    """A folder that all may write to; in a sticky one each may remove his own files alone."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(request.param)
    yield folder
    shutil.rmtree(folder)


def _as_nobody(function, *arguments):
    def run():
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        function(*arguments)

    process = _FORK.Process(target=run)
    process.start()
    return process


def _take(folder, said, wait=True):
    with lock_digest("abc", wait=wait, say=said.append, folder=folder) as held:
        (folder / f"held-{os.getpid()}-{bool(held)}").touch()


@needs_root
@pytest.mark.parametrize("mode", [0o644, 0o664, 0o600])
def test_a_lock_that_a_killed_process_of_another_user_left_blocks_nobody(shared, mode):
    (shared / ".abc.lock").touch()
    (shared / ".abc.lock").chmod(mode)
    process = _as_nobody(_take, shared, [])
    process.join(30)
    if mode == 0o600:
        # Nobody can tell whether it is held; that is said, and not taken for leave.
        assert process.exitcode != 0
        return
    assert process.exitcode == 0 and list(shared.glob("held-*-True"))


@needs_root
def test_a_lock_of_another_user_is_waited_for(shared):
    descriptor = os.open(shared / ".abc.lock", os.O_RDWR | os.O_CREAT, 0o644)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    refused = _as_nobody(_take, shared, [], False)
    refused.join(30)
    assert [path.name.rpartition("-")[2] for path in shared.glob("held-*")] == ["False"]
    waiting = _as_nobody(_take, shared, [])
    waiting.join(0.5)
    assert waiting.is_alive()
    fcntl.flock(descriptor, fcntl.LOCK_UN)  # the other process has inherited the descriptor
    os.close(descriptor)
    waiting.join(30)
    assert waiting.exitcode == 0 and list(shared.glob("held-*-True"))


@pytest.mark.parametrize("umask", [0o002, 0o077])
def test_a_lock_follows_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        with lock_digest("abc", wait=True, folder=tmp_path):
            assert stat.S_IMODE((tmp_path / ".abc.lock").stat().st_mode) == 0o666 & ~umask
    finally:
        os.umask(before)
    assert not list(tmp_path.iterdir())


def test_a_link_or_a_pipe_in_the_place_of_a_lock_is_not_followed_and_not_waited_for(tmp_path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / ".abc.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError), lock_digest("abc", wait=True, folder=tmp_path):  # noqa: PT011
        pass
    assert (tmp_path / "precious").read_text() == "precious"
