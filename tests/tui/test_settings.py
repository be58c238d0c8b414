"""The configuration file: what it may say, and one clear line for what it may not."""

import pytest

from cc_tui.settings import Settings, load_settings
from cc_tui.symbols import SymbolTable, load_symbols
from chaoscontrol.errors import UsageError
from chaoscontrol.images import image_path
from chaoscontrol.symbols.table import Symbol


def write(path, text):
    path = path / "config.toml"
    path.write_text(text)
    return path


def test_without_a_file_there_are_defaults(tmp_path):
    settings = load_settings(tmp_path / "config.toml")
    assert (settings.theme, settings.speed, settings.step_ns, dict(settings.keys)) == ("dark", 1.0, 1_000_000, {})


def test_the_place_of_the_file_is_xdg(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "cc-tui").mkdir()
    write(tmp_path / "cc-tui", 'theme = "light"')
    assert load_settings().theme == "light"


def test_everything_that_can_be_said(tmp_path):
    text = 'theme = "light"\nspeed = "max"\nstep = "5t"\nstart = "paused"\n[keys]\n"time.tick" = "x"\n'
    settings = load_settings(write(tmp_path, text), quantum_ns=10_000)
    assert settings == Settings("light", None, 50_000, False, {"time.tick": "x"}, str(tmp_path / "config.toml"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("theme = ", "not TOML"),
        ('theme = "pink"', "it is dark or light"),
        ("theme = ['dark']", "it is dark or light"),
        ('colour = "red"', "unknown setting 'colour'"),
        ('speed = "fast"', "not a speed"),
        ('step = "1"', "write it as"),
        ('step = "0ms"', "a step of no time"),
        ('start = "now"', "it is running or paused"),
        ("keys = 3", "keys is not a table"),
    ],
)
def test_mistakes_name_the_file(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        load_settings(path)
    line = str(caught.value)
    assert str(path) in line
    assert message in line or "250us" in line
    assert "\n" not in line


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(UsageError, match="directory"):
        load_settings(tmp_path)
    path = tmp_path / "config.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="not TOML"):
        load_settings(path)


def test_symbols_by_address():
    table = SymbolTable([Symbol("a", 0x1000, 0x10), Symbol("b", 0x2000, 0), Symbol("c", 0x900000, 4)])
    names = {address: table.name(address) for address in (0xFFF, 0x1000, 0x100F, 0x1010, 0x2004, 0x800000, 0x900003)}
    assert names == {
        0xFFF: "", 0x1000: "a", 0x100F: "a+0xf", 0x1010: "", 0x2004: "b+0x4", 0x800000: "", 0x900003: "c+0x3",
    }  # fmt: skip


def test_symbols_of_the_included_kernel():
    table = load_symbols(image_path("vmlinux"))
    assert table.name(0xFFFFFFFF81000000) != ""
    assert load_symbols("/nonexistent").name(0xFFFFFFFF81000000) == ""
