"""How far a long calculation is, as a person sees it: on a terminal, in a file."""

import os
import pty
import subprocess
import sys

RUN = """
import time
from unrolled.cli import share_view
share_view._FIRST_SECONDS, share_view._LINE_SECONDS = {first}, {line}
with share_view.share_view("judged") as told:
    for step in range(1, 11):
        told(step / 10)
        time.sleep(0.05)
print("the result")
"""


def run(first: float, line: float) -> tuple[str, str]:
    ran = subprocess.run(
        [sys.executable, "-c", RUN.format(first=first, line=line)], capture_output=True, text=True, check=True
    )
    return ran.stdout, ran.stderr


def test_what_is_done_at_once_shows_nothing():
    assert run(10.0, 10.0) == ("the result\n", "")


def test_lines_with_the_time_left_on_standard_error():
    out, err = run(0.0, 0.0)
    assert out == "the result\n"
    lines = err.splitlines()
    assert len(lines) == 9  # the first share is where the clock starts
    assert all(line.startswith("judged: ") and line.endswith(" s left") for line in lines)
    assert lines[-1] == "judged: 100%, 0 s left"


def test_lines_keep_their_distance():
    assert len(run(0.0, 10.0)[1].splitlines()) == 1


def test_a_bar_on_a_terminal_goes_away():
    terminal, its_end = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "60"}
    script = RUN.format(first=0.0, line=0.0)
    process = subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=its_end, stderr=its_end)
    os.close(its_end)
    shown = b""
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(terminal)
    assert process.wait() == 0
    text = shown.decode()
    assert "judged" in text and "100 %" in text and "s left" in text
    assert text.rindex("\x1b[2K") > text.rindex("judged")  # erased
    assert text.endswith("the result\r\n")
