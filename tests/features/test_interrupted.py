"""Ctrl-C, typed on a real terminal while a command works: one line, status 130, and the command to carry on with."""

import os
import re
import select
import shlex
import signal
import subprocess
import sys
import time

import pytest

pty = pytest.importorskip("pty", reason="needs a system with pseudo terminals")

SMALL = ["--dataset", "digits", "--weights", "random"]
CONVNET = [*SMALL, "--limit", "200", "--limit-test", "20", "--epochs", "100000"]


def _typed_at(command: list[str], sign: str, folder) -> tuple[int, str]:
    """Start a command on a terminal, press Ctrl-C when it shows `sign`; its exit status and all that it showed."""
    import fcntl
    import termios

    def prepare() -> None:
        # A shell's background jobs ignore the signal, and so would what they start.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    master, slave = pty.openpty()
    process = subprocess.Popen(
        command,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=folder,
        env={**os.environ, "COLUMNS": "200", "TERM": "xterm"},
        start_new_session=True,
        preexec_fn=prepare,
    )
    os.close(slave)
    shown, pressed, end = "", False, time.monotonic() + 120
    try:
        while time.monotonic() < end:
            if not select.select([master], [], [], 0.2)[0]:
                continue
            try:
                shown += os.read(master, 65536).decode(errors="replace")
            except OSError:
                # The terminal has no user any more: the command has ended.
                break
            if not pressed and re.search(sign, shown):
                os.write(master, b"\x03")
                pressed = True
        assert pressed, f"no {sign!r} in {shown!r}"
        return process.wait(timeout=30), shown
    finally:
        process.kill()
        process.wait()
        os.close(master)


@pytest.mark.parametrize(
    ("arguments", "sign"),
    [
        # The bar is up: images go through the network.
        (["extract", *SMALL, "--image-size", "96", "--compile", "off"], "━"),
        (["classify", "--model", "convnet", *CONVNET], r"epoch 2:"),
        (["classify", "compare", "--models", "lda@layer1", "convnet", "--image-size", "32", *CONVNET], r"epoch 2:"),
    ],
    ids=["extract", "run", "compare"],
)
def test_ctrl_c_ends_with_one_line_that_says_how_to_carry_on(home, tmp_path, arguments, sign):
    command = [sys.executable, "-m", *arguments]
    status, shown = _typed_at(command, sign, tmp_path)
    assert status == 130, shown
    assert "Traceback" not in shown
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).strip().splitlines()[-1]
    assert re.fullmatch(r".*stopped; what is complete is saved; carry on with: (.*)", last), last
    assert shlex.split(last.split("carry on with: ")[1]) == command
    assert shown.count("stopped;") == 1
