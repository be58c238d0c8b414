"""gdb's protocol without a machine: framing, and what the server answers about a target that is a few numbers."""

from __future__ import annotations

import socket
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable, Collection, Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from toys.cluster import ToyVm

from cc_tui.gdb.description import REGISTERS, all_bytes, changes, target_xml
from cc_tui.gdb.packets import INTERRUPT, ConnectionClosedError, PacketStream, checksum, escape, unescape
from cc_tui.gdb.server import GdbServer, listen
from cc_tui.gdb.target import Point, Report, Why
from chaoscontrol.errors import AddressError, UsageError

BASE, MEMORY = 0x1000, bytes(range(256)) * 40
LAST = 100
"""Instructions in the toy's history."""


class ToyTarget:
    """Executes one byte per instruction from BASE on; its history has LAST of them."""

    def __init__(self) -> None:
        self.values = ToyVm(0, 1).registers()
        self.memory = bytearray(MEMORY)
        self.at = 0

    def registers(self):
        return self.values.replace(rip=BASE + self.at)

    def set_register(self, name: str, value: int) -> None:
        self.values = self.values.edit(name, value)

    def read_memory(self, address: int, size: int) -> bytes:
        return bytes(self.memory[address - BASE : address - BASE + size]) if address >= BASE else b""

    def write_memory(self, address: int, data: bytes) -> None:
        if not BASE <= address <= BASE + len(self.memory) - len(data):
            raise AddressError(f"{address:#x} is not mapped")
        self.memory[address - BASE : address - BASE + len(data)] = data

    def step(self, points: Collection[Point], *, back: bool) -> Report:
        if self.at == (0 if back else LAST):
            return Report(Why.BEGIN if back else Why.END)
        self.at += -1 if back else 1
        return Report(Why.STEPPED)

    def step_range(self, low: int, high: int, interrupted: Callable[[], bool]) -> Report:
        self.at = min(self.at + 1, LAST)
        while low <= BASE + self.at < high and self.at < LAST:
            self.at += 1
        return Report(Why.STEPPED)

    def resume(self, points: Collection[Point], interrupted: Callable[[], bool], *, back: bool) -> Report:
        while True:
            if interrupted():
                return Report(Why.INTERRUPTED)
            if self.at == (0 if back else LAST):
                return Report(Why.BEGIN if back else Why.END)
            self.at += -1 if back else 1
            for point in sorted(points):
                if point.kind.is_break and point.address == BASE + self.at:
                    return Report(Why.POINT, point)
                if not point.kind.is_break and self.at % 10 == 5:  # where the toy "writes"
                    return Report(Why.POINT, point, point.address + 1)

    def monitor(self, line: str) -> str:
        if line == "fail":
            raise UsageError("no such thing", hint="try another")
        return f"you said {line}\n" * (200 if line == "much" else 1)


class Client:
    """The other side of the connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.stream = PacketStream(connection)
        self.socket = connection

    def ask(self, text: str | bytes) -> str:
        self.stream.send(text.encode() if isinstance(text, str) else text)
        return self.stream.read().decode("latin-1")


@pytest.fixture
def target() -> ToyTarget:
    return ToyTarget()


@pytest.fixture
def client(target: ToyTarget) -> Iterator[Client]:
    ours, theirs = socket.socketpair()
    ours.settimeout(20)
    server = GdbServer(target, PacketStream(theirs))
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    yield Client(ours)
    ours.close()
    thread.join(20)
    theirs.close()
    assert not thread.is_alive(), "the server ends with its connection"


# ---- packets ---------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=300))
def test_what_is_escaped_comes_back_and_has_nothing_special_in_it(data: bytes) -> None:
    assert unescape(escape(data)) == data
    assert not set(escape(data)) & set(b"#$*")


@given(st.lists(st.binary(max_size=40).map(escape), max_size=5), st.integers(1, 7))
@settings(max_examples=50)
def test_packets_arrive_whole_however_they_are_cut(packets: list[bytes], piece: int) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        data = b"".join(b"$" + packet + b"#" + checksum(packet) for packet in packets)
        for at in range(0, len(data), piece):
            ours.sendall(data[at : at + piece])
        stream = PacketStream(theirs)
        assert [stream.read() for _ in packets] == packets
        assert ours.recv(100) == b"+" * len(packets) if packets else True


def test_a_damaged_packet_is_asked_for_again() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(b"$g#00$g#67")
        assert PacketStream(theirs).read() == b"g"
        assert ours.recv(10) == b"-+"


def test_what_did_not_arrive_is_sent_again() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        stream = PacketStream(theirs)
        stream.send(b"OK")
        ours.sendall(b"-+$?#3f")
        assert stream.read() == b"?"
        assert ours.recv(100) == b"$OK#9a$OK#9a+"


def test_the_interrupt_byte_between_packets() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        stream = PacketStream(theirs)
        assert not stream.interrupted()
        ours.sendall(b"+\x03")
        assert stream.interrupted()
        assert not stream.interrupted(), "once"
        ours.sendall(b"\x03$?#3f")
        assert (stream.read(), stream.read()) == (INTERRUPT, b"?")
        ours.sendall(b"$X\x03#5b")
        assert not stream.interrupted(), "inside of a packet it is a byte as any other"
        assert stream.read() == b"X\x03"
        ours.close()
        assert stream.interrupted(), "nobody waits for the end of the movement"
        with pytest.raises(ConnectionClosedError):
            stream.read()


def test_a_packet_without_an_end_is_not_kept_for_ever() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        thread = threading.Thread(target=lambda: ours.sendall(b"$" + b"x" * 40_000), daemon=True)
        thread.start()
        with pytest.raises(ConnectionClosedError, match="no end"):
            PacketStream(theirs).read()
        thread.join(20)


# ---- the description -------------------------------------------------------------------------------------------------


def test_the_description_is_xml_with_every_register_once() -> None:
    root = ET.fromstring(target_xml())
    found = [(reg.get("name"), int(reg.get("bitsize", "0"))) for reg in root.iter("reg")]
    assert found == [(register.name, register.bits) for register in REGISTERS]
    assert len({name for name, _ in found}) == len(found)
    known = {"int", "int32", "int64", "i387_ext", "data_ptr", "code_ptr"}
    known |= {kind.get("id") for tag in ("flags", "union", "vector") for kind in root.iter(tag)}
    assert {reg.get("type") for reg in root.iter("reg")} <= known


@given(st.sampled_from([register for register in REGISTERS if register.edits]), st.integers(0))
def test_a_register_that_is_set_is_what_is_read(register, value: int) -> None:
    values = ToyVm(0, 1).registers()
    value &= (1 << (16 if register.edits in ("fcw", "fsw", "ftw", "fop") else register.bits)) - 1
    edited = values.edit(register.edits, value) if register.edits != "fsw" else values
    assert register.name == "fstat" or int.from_bytes(register.bytes_of(edited), "little") == value
    for name, wanted in changes(values, all_bytes(edited)):
        values = values.edit(name, wanted)
    assert values == edited


# ---- the server ------------------------------------------------------------------------------------------------------


def test_the_first_questions(client: Client) -> None:
    assert "ReverseContinue+" in client.ask("qSupported:multiprocess+;swbreak+")
    assert client.ask("vMustReplyEmpty") == ""
    assert client.ask("QStartNoAckMode") == "OK"
    client.stream.acknowledges = False
    assert client.ask("Hg0") == "OK"
    assert client.ask("qXfer:features:read:target.xml:0,20") == "m" + target_xml()[:0x20]
    whole, at = "", 0
    while True:
        piece = client.ask(f"qXfer:features:read:target.xml:{at:x},400")
        whole, at = whole + unescape(piece[1:].encode()).decode(), at + 0x400
        if piece[0] == "l":
            break
    assert whole == target_xml()
    assert client.ask("qXfer:features:read:other.xml:0,20") == "E00"
    assert [client.ask(q) for q in ("qC", "qfThreadInfo", "qsThreadInfo", "qAttached", "T1", "T2")] == [
        "QC1", "m1", "l", "1", "OK", "E01",
    ]  # fmt: skip
    assert client.ask("?") == "T05thread:1;"


def test_registers(client: Client, target: ToyTarget) -> None:
    assert client.ask("g") == all_bytes(target.registers()).hex()
    assert client.ask("p0") == target.values.rax.to_bytes(8, "little").hex()
    assert client.ask("p10") == (BASE).to_bytes(8, "little").hex(), "RIP"
    assert client.ask("P0=8877665544332211") == "OK"
    assert target.values.rax == 0x1122334455667788
    assert client.ask("P12=0000") == "E01", "selectors cannot be set"
    wanted = all_bytes(target.registers().edit("xmm5", 77).edit("rbx", 9))
    assert client.ask("G" + wanted.hex()) == "OK"
    assert (target.values.xmm[5], target.values.rbx) == (77, 9)
    assert client.ask("G00") == "E22"
    assert client.ask("p99") == "E01"
    assert client.ask("P99=00") == "E01"
    assert client.ask("pxy") == "E22"


def test_memory(client: Client, target: ToyTarget) -> None:
    assert client.ask("m1000,4") == "00010203"
    assert client.ask("m37fe,8") == "feff", "as many as there are"
    assert client.ask("m10,4") == "E14"
    assert client.ask("m1000,0") == ""
    assert unescape(client.ask("x1020,8").encode("latin-1"))[1:] == bytes(range(0x20, 0x28))
    assert client.ask("M1010,2:cafe") == "OK"
    assert client.ask(b"X1012,3:" + escape(b"#}$")) == "OK"
    assert target.memory[0x10:0x15] == b"\xca\xfe#}$"
    assert client.ask("M1010,3:cafe") == "E22"
    assert client.ask("M1010,2:wxyz") == "E22"
    assert client.ask("M10,2:cafe").startswith("O"), "why comes before the error"
    assert client.stream.read() == b"E01"
    assert client.ask(b"qSearch:memory:1000;1000;\x80\x81") == "1,1080"
    assert client.ask(b"qSearch:memory:1000;1000;\x81\x80") == "0"


def test_steps_both_ways(client: Client, target: ToyTarget) -> None:
    assert client.ask("s") == "T05thread:1;"
    assert client.ask("vCont;s:1;c") == "T05thread:1;"
    assert target.at == 2
    assert client.ask("bs") == "T05thread:1;"
    assert client.ask("bs") == "T05thread:1;"
    assert client.ask("bs") == "T05thread:1;replaylog:begin;"
    assert client.ask("vCont;r1000,1010") == "T05thread:1;"
    assert target.at == 16
    assert client.ask("?") == "T05thread:1;"


def test_points_both_ways(client: Client, target: ToyTarget) -> None:
    assert client.ask("Z0,1020,1") == "OK"
    assert client.ask("Z1,1040,1") == "OK"
    assert client.ask("vCont;c") == "T05thread:1;swbreak:;"
    assert client.ask("c") == "T05thread:1;hwbreak:;"
    assert client.ask("c") == "T05thread:1;replaylog:end;"
    assert client.ask("bc") == "T05thread:1;hwbreak:;"
    assert client.ask("bc") == "T05thread:1;swbreak:;"
    assert client.ask("Z2,2000,8") == "OK"
    assert client.ask("bc") == "T05thread:1;watch:2001;"
    assert target.at == 25
    assert client.ask("z2,2000,8") == "OK"
    assert client.ask("z0,1020,1") == "OK"
    assert client.ask("bc") == "T05thread:1;replaylog:begin;"
    assert client.ask("Z3,2000,0") == "E22"
    assert client.ask("Z9,2000,1") == ""
    assert client.ask("vCont?") == "vCont;c;C;s;S;r"
    assert client.ask("vCont;x") == "E22"


def test_an_interrupt_ends_a_movement(client: Client) -> None:
    client.stream.send(b"c")
    client.socket.sendall(b"\x03")
    assert client.stream.read().decode() in ("T02thread:1;", "T05thread:1;replaylog:end;")


def test_monitor(client: Client) -> None:
    assert bytes.fromhex(client.ask("qRcmd," + b"hello".hex())[1:]) == b"you said hello\n"
    assert client.stream.read() == b"OK"
    assert b"no such thing; try another" in bytes.fromhex(client.ask("qRcmd," + b"fail".hex())[1:])
    assert client.stream.read() == b"OK"


@given(st.lists(st.binary(min_size=1, max_size=30) | st.sampled_from([b"c", b"s", b"bc", b"bs"]), max_size=10))
@example([b"c", b"s", b"c", b"vCont;r0,ffffffffffff", b"c", b"bc", b"bs", b"bc"])
@settings(max_examples=60, deadline=None)
def test_any_packet_has_an_answer(packets: list[bytes]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(20)
        thread = threading.Thread(target=GdbServer(ToyTarget(), PacketStream(theirs)).serve, daemon=True)
        thread.start()
        client = Client(ours)
        for packet in packets:
            if packet[:1] in b"kD" or packet.startswith(b"vKill") or packet == b"QStartNoAckMode":
                continue
            client.ask(escape(packet))
        while client.ask("Hc0") != "OK":
            pass
        assert client.ask("D") == "OK"
        thread.join(20)
        assert not thread.is_alive()


def test_a_port_that_is_taken_is_one_line() -> None:
    with listen(0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} cannot be listened on"):
            listen(port)
    with pytest.raises(UsageError, match="port 70000"):
        listen(70000)
