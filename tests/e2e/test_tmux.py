"""The real program in a real terminal (tmux), on the real engine: boot, type, step back to before it, branch.

Slow steps are waited for, not slept through. Without tmux the tests are skipped, with the reason.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from chaoscontrol.errors import ChaosControlError
from chaoscontrol.images import image_path

TMUX = shutil.which("tmux")
ROOT = Path(__file__).parents[2]


def missing() -> str:
    """Why the program cannot be tried here, or nothing."""
    if TMUX is None:
        return "tmux is not installed (Debian: apt install tmux)"
    try:
        image_path("vmlinux"), image_path("hello")
    except ChaosControlError as error:
        return str(error)
    return ""


pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "it is there")


class Screen:
    """The program in a tmux session of its own."""

    def __init__(self, directory: Path, size: tuple[int, int], arguments: str, environment: str = "") -> None:
        # Of its own: a server that was told to end may still be ending.
        self._socket = str(directory / f"tmux{len(list(directory.glob('tmux*')))}")
        self._columns, self._rows = size
        # The status goes to a file: tmux clears the screen when the program leaves it.
        self.status = directory / "status"
        home = f"HOME={directory} XDG_CONFIG_HOME={directory}/config XDG_STATE_HOME={directory}/state {environment}"
        command = f"cd {ROOT}; env {home} {sys.executable} -m cc_tui {arguments}; echo $? > {self.status}; sleep 600"
        command = f"unset COLUMNS LINES; {command}"
        self._tmux("-f", "/dev/null", "new-session", "-d", "-x", str(size[0]), "-y", str(size[1]), "-s", "t", command)

    def _tmux(self, *words: str) -> str:
        assert TMUX is not None, "checked above"
        done = subprocess.run(
            [TMUX, "-S", self._socket, *words], capture_output=True, text=True, check=True, timeout=20
        )
        return done.stdout

    def close(self) -> None:
        subprocess.run([TMUX or "", "-S", self._socket, "kill-server"], capture_output=True, check=False, timeout=20)

    @property
    def text(self) -> str:
        return self._tmux("capture-pane", "-p", "-t", "t")

    @property
    def rows(self) -> list[str]:
        return self.text.split("\n")[: self._rows]

    @property
    def colours(self) -> str:
        """The screen with its escape sequences."""
        return self._tmux("capture-pane", "-p", "-e", "-t", "t")

    @property
    def modes(self) -> str:
        """Is the alternate screen on, and does the program get the mouse?"""
        return self._tmux("display-message", "-p", "-t", "t", "#{alternate_on} #{mouse_any_flag}").strip()

    @property
    def has_echo(self) -> bool:
        """Does the terminal itself show what is typed?"""
        with Path(self._tmux("display-message", "-p", "-t", "t", "#{pane_tty}").strip()).open("rb") as terminal:
            return bool(termios.tcgetattr(terminal)[3] & termios.ECHO)

    @property
    def program(self) -> int:
        """The process id of cc-tui."""
        shell = self._tmux("display-message", "-p", "-t", "t", "#{pane_pid}").strip()
        return int(Path(f"/proc/{shell}/task/{shell}/children").read_text().split()[0])

    def press(self, *keys: str) -> None:
        for key in keys:
            self._tmux("send-keys", "-t", "t", key)
            time.sleep(0.02)

    def write(self, text: str) -> None:
        self._tmux("send-keys", "-t", "t", "-l", text)

    def paste(self, text: str) -> None:
        """Paste, marked as one if the program asked for that."""
        self._tmux("set-buffer", text)
        self._tmux("paste-buffer", "-p", "-t", "t")

    def command(self, line: str) -> None:
        self.write(f":{line}\r")

    def wait(self, pattern: str, seconds: float = 60.0) -> str:
        """Wait until the screen shows a pattern; returns the screen."""
        end = time.monotonic() + seconds
        while True:
            text = self.text
            if re.search(pattern, text):
                return text
            assert time.monotonic() < end, f"the screen never showed {pattern!r}:\n{text}"
            time.sleep(0.05)

    def wait_until_gone(self, text: str, seconds: float = 20.0) -> None:
        """Wait until no prompt's line of the console shows a text; the status is drawn a frame before the console."""
        end = time.monotonic() + seconds
        while any(text in row[:80] for row in self.rows[:-3] if "guest>" in row):
            assert time.monotonic() < end, f"{text!r} stays on the screen:\n{self.text}"
            time.sleep(0.05)

    def left_with(self) -> int:
        """The program's exit status, once it has left."""
        end = time.monotonic() + 20
        while not self.status.exists() or not self.status.read_text().strip():
            assert time.monotonic() < end, f"it does not leave:\n{self.text}"
            time.sleep(0.05)
        return int(self.status.read_text())


@pytest.fixture
def open_screen(tmp_path):
    screens = []

    def open_one(size=(80, 24), arguments="", environment=""):
        screens.append(Screen(tmp_path, size, arguments, environment))
        return screens[-1]

    yield open_one
    for screen in screens:
        screen.close()


def boot(screen: Screen) -> None:
    begun = time.monotonic()
    screen.wait(r"guest> *(│|\n)", 60)
    assert time.monotonic() - begun < 30, "Linux boots within 30 seconds"


@pytest.mark.parametrize("size", [(80, 24), (160, 50)])
def test_boot_type_step_back_and_branch(open_screen, size):
    screen = open_screen(size, "--vms 1")
    boot(screen)

    # Type at the console.
    screen.press("Enter")
    screen.wait(r"KEYS → vm0")
    screen.write("echo first")
    screen.press("Enter")
    screen.wait(r"guest> echo first[^\n]*\n(│ )?first\b")
    screen.press("C-]")
    screen.wait(r"RUN|PAUSED")
    screen.command("pause")
    screen.wait(r"PAUSED +main@")

    # Back to before it was typed.
    screen.press("C")
    screen.wait(r"PAST +main@")
    screen.wait_until_gone("echo first")

    # Type something else: that is another branch.
    screen.press("Enter")
    screen.wait(r"KEYS → vm0")
    screen.write("echo second")
    screen.press("Enter")
    screen.wait(r"b1@")
    screen.wait(r"guest> echo second")
    screen.press("C-]")
    screen.wait(r"PAUSED +b1@")
    screen.wait_until_gone("echo first")

    # And the first one is still there.
    screen.command("goto main")
    screen.wait(r"PAUSED +main@")
    screen.wait(r"guest> echo first")
    screen.wait_until_gone("echo second")

    screen.press("q")
    screen.wait(r"Leave cc-tui\?")
    screen.press("q")
    assert screen.left_with() == 0


def test_stepping_is_exact_and_the_moment_verifies_itself(open_screen, tmp_path):
    screen = open_screen((160, 50), "--vms 2")
    screen.wait(r"guest> ")
    screen.press("Space")
    screen.wait(r"PAUSED +main@")
    screen.command(f"copy {tmp_path}/moment")
    screen.wait(r"written to")
    moment = (tmp_path / "moment").read_text().strip()
    screen.press("T", "T", "I", "N", "i", "t", "S")
    screen.wait(r"PAST")
    screen.command(f"goto {moment}")
    screen.wait(r"PAUSED +" + re.escape(moment.split(":")[0]))
    digest = re.findall(r"\.([0-9a-f]{8})", moment.split(":")[1])[0]
    screen.wait(rf"#{digest}")
    # A digest that is not the one: named, and the cursor stays.
    screen.command(f"goto {moment.replace(digest, '0badf00d')}")
    screen.wait(r"machine 0 differs in state")
    screen.press("q")
    assert screen.left_with() == 0


def test_a_session_is_saved_and_repeated_by_another_process(open_screen, tmp_path):
    screen = open_screen((80, 24), "--vms 1 --seed 5")
    boot(screen)
    screen.press("Enter")
    screen.wait(r"KEYS → vm0")
    screen.write("echo again")
    screen.press("Enter")
    screen.wait(r"guest> echo again[^\n]*\nagain")
    screen.press("C-]", "Space")
    screen.wait(r"PAUSED")
    screen.command(f"save {tmp_path}/x.cc")
    screen.wait(r"saved to")
    place = re.search(r"PAUSED +(\S+)", screen.text)[1]
    screen.press("q")
    assert screen.left_with() == 0
    screen.close()
    screen.status.unlink()

    (tmp_path / "config" / "cc-tui").mkdir(parents=True)
    (tmp_path / "config" / "cc-tui" / "config.toml").write_text('start = "paused"\n')
    screen = open_screen((80, 24), "--vms 1 --seed 5")
    screen.wait(r"PAUSED +main@0.000000000")
    screen.command(f"source {tmp_path}/x.cc")
    screen.wait(r"carried out")
    screen.wait(re.escape(place))
    assert "guest> echo again" in screen.text


def test_keys_in_one_burst_are_dealt_with_in_order(open_screen):
    """Found by use: `:branch foo` sent in one go made a branch b1, and more, by its single letters."""
    screen = open_screen((120, 40), "--vms 2")
    screen.wait(r"guest> ")
    screen.write(" :branch foo\r:mark here\rtt:mark there\r")
    screen.wait(r"PAUSED +foo@")
    screen.wait(r"mark there: foo@")
    screen.write(":goto here\r")
    screen.wait(r"PAST +foo@")
    screen.write("gthere\r")
    screen.wait(r"PAUSED +foo@")
    # A fault by its form, and something typed at a console, each in one go; then the filter of a list.
    screen.write("fnetwork_latency\r\x1b[B\x1b[B\x1b[B\r:attach\recho burst\r")
    screen.wait(r"guest> echo burst[^\n]*\n[^\n]*burst")
    screen.write("\x1d:view branches\r")
    assert re.findall(r"\bb\d\b", screen.text) == []
    screen.write(":view events\r/latency\r")
    screen.wait(r"/latency +2 match")

    # A paste is text: for who takes text, and for nobody else.
    screen.paste("branch bar\n")
    screen.wait(r"nothing here takes what was pasted")
    screen.press(":")
    screen.paste("branch bar")
    screen.write("\r")
    screen.wait(r"bar@")
    screen.write("1a")
    screen.paste("echo pasted\n")
    screen.wait(r"guest> echo pasted[^\n]*\n[^\n]*pasted")
    screen.write("\x1dq")
    screen.wait(r"Leave cc-tui\?")
    screen.write("q")
    assert screen.left_with() == 0


def test_no_color(open_screen):
    screen = open_screen((80, 24), "--vms 1", "NO_COLOR=1")
    boot(screen)
    for colour in re.findall(r"\x1b\[[0-9;]*?38;2;(\d+);(\d+);(\d+)", screen.colours):
        assert colour[0] == colour[1] == colour[2]


def test_mistakes_in_the_configuration_are_one_line(open_screen, tmp_path):
    (tmp_path / "config" / "cc-tui").mkdir(parents=True)
    (tmp_path / "config" / "cc-tui" / "config.toml").write_text('[keys]\n"time.tock" = "x"\n')
    screen = open_screen((80, 24), "--vms 1")
    assert screen.left_with() == 2
    assert "no binding 'time.tock'" in screen.text.replace("\n", "")
    assert "Traceback" not in screen.text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_the_terminal_as_it_was(open_screen, number):
    screen = open_screen(arguments="--vms 1")
    screen.wait("RUN 1x")
    assert screen.modes == "1 1", "the alternate screen, the mouse"
    os.kill(screen.program, number)
    assert screen.left_with() == 130
    assert screen.modes == "0 0"


def test_it_leaves_when_its_terminal_is_gone(open_screen):
    """Found by killing tmux while a form was open: the process stayed, waiting to write to nobody."""
    screen = open_screen(arguments="--vms 1")
    screen.wait("RUN 1x")
    program = Path(f"/proc/{screen.program}")
    screen.press("f")
    screen.close()
    end = time.monotonic() + 20
    while program.exists() and program.joinpath("stat").read_text().split()[2] != "Z":
        assert time.monotonic() < end, "it stays without a terminal"
        time.sleep(0.1)
