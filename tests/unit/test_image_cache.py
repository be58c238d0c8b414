"""chaoscontrol.image_cache: kept, checked, bounded, and silent where nothing can be kept."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import zstandard

from chaoscontrol import loader
from chaoscontrol.image_cache import ENTRIES_MAX, Entry
from chaoscontrol.images import cache_dir

PLAIN = bytes(range(256)) * 300


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "cc-tui" / "images"


def inflations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what is inflated from now on."""
    names: list[str] = []
    inflate = loader._inflate

    def counting(data: loader.Buffer, name: str) -> loader.Buffer:
        names.append(name)
        return inflate(data, name)

    monkeypatch.setattr(loader, "_inflate", counting)
    return names


def test_an_image_is_inflated_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    path = tmp_path / "image.zst"
    path.write_bytes(zstandard.compress(PLAIN))
    names = inflations(monkeypatch)
    for _ in range(3):
        assert bytes(loader.read_source(path, "image")[1]) == PLAIN
    assert names == [str(path)]
    assert [entry.stat().st_mode & 0o777 for entry in cache.iterdir()] == [0o600]
    path.write_bytes(zstandard.compress(PLAIN[::-1]))
    assert bytes(loader.read_source(path, "image")[1]) == PLAIN[::-1]


def test_what_is_not_compressed_is_not_kept(cache: Path) -> None:
    loader.read_source(PLAIN, "image")
    assert not cache.exists()


def test_a_damaged_image_is_refused_and_not_kept(cache: Path) -> None:
    with pytest.raises(loader.UsageError, match="damaged"):
        loader.read_source(zstandard.compress(PLAIN)[:-20], "image")
    assert not cache.exists()


@pytest.mark.parametrize("damage", ["cut", "empty", "short", "bit", "trailer", "directory"])
def test_a_damaged_entry_is_replaced(damage: str) -> None:
    entry = Entry(b"compressed")
    entry.store(PLAIN)
    path = Path(entry.path)
    data = bytearray(path.read_bytes())
    data[1000 if damage == "bit" else -1] ^= 1 if damage in ("bit", "trailer") else 0
    path.unlink()
    if damage == "directory":
        path.mkdir()
        assert entry.load() is None
        return
    path.write_bytes({"cut": data[:-1], "empty": b"", "short": data[:7]}.get(damage, data))
    assert entry.load() is None
    entry.store(PLAIN)
    assert entry.load() == PLAIN


@pytest.mark.parametrize("base", ["/dev/null", "/proc/nowhere"])
def test_where_nothing_can_be_kept_images_still_load(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", base)
    assert bytes(loader.read_source(zstandard.compress(PLAIN), "image")[1]) == PLAIN


def test_a_full_disk_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    def full(_fd: int, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    entry = Entry(b"compressed")
    entry.store(PLAIN)
    assert list(cache.iterdir()) == []
    assert entry.load() is None


def test_the_oldest_entries_go(cache: Path) -> None:
    entries = [Entry(bytes([i])) for i in range(ENTRIES_MAX + 3)]
    for age, entry in enumerate(entries):
        entry.store(PLAIN[age:])
        os.utime(entry.path, ns=(age, age))
    assert len(list(cache.iterdir())) == ENTRIES_MAX
    assert [entry.load() is not None for entry in entries] == [False] * 3 + [True] * ENTRIES_MAX


def test_many_writers_and_readers_at_once() -> None:
    entry = Entry(b"compressed")

    def work(_: int) -> bool:
        entry.store(PLAIN)
        found = entry.load()
        return found is None or found == PLAIN

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(64)))
    assert entry.load() == PLAIN


def test_the_place_follows_xdg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", "/h")
    assert cache_dir() == "/h/.cache/cc-tui/images"
