"""Fault types, schedules, their text form, and the engine against a cluster that only remembers what it was told."""

import copy
import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaoscontrol.errors import UsageError
from chaoscontrol.faults import (
    FAULTS,
    ClockJump,
    ClockSkew,
    CpuSlowdown,
    DiskEffect,
    DiskFull,
    DiskTornWrite,
    FaultEngine,
    FaultError,
    FaultSchedule,
    FaultScheduleBuilder,
    HealAll,
    InjectInterrupt,
    LinkEffect,
    MachineEffect,
    NetworkBandwidth,
    NetworkHeal,
    NetworkLatency,
    NetworkPartition,
    OneWayPartition,
    PacketLoss,
    ProcessKill,
    ProcessPause,
    ProcessRestart,
    ScheduledFault,
    SignalProcess,
    effects_of,
    format_ns,
    parse_ns,
)

VMS = 3
MS = 1_000_000


class Told:
    """A cluster that remembers the last value of everything, and what happened in a moment."""

    def __init__(self):
        self.links, self.disks, self.values, self.moments = {}, {}, {}, []

    def fault_link(self, src, dst, effect):
        self.links[src, dst] = effect

    def fault_disk(self, vm, effect):
        self.disks[vm] = effect

    def fault_pause(self, vm, paused):
        self.values["paused", vm] = paused

    def fault_power_off(self, vm, disk):
        self.values["off", vm] = True
        self.moments.append(("off", vm, disk))

    def fault_boot(self, vm):
        self.values["off", vm] = False
        self.moments.append(("boot", vm))

    def fault_slowdown(self, vm, factor):
        self.values["slowdown", vm] = factor

    def fault_skew(self, vm, ppm):
        self.values["skew_ppm", vm] = ppm

    def fault_timer_jitter(self, vm, max_ns):
        self.values["timer_jitter_ns", vm] = max_ns

    def fault_balloon(self, vm, take_bytes):
        self.values["balloon_bytes", vm] = take_bytes

    def fault_irq(self, vm, irq):
        self.moments.append(("irq", vm, irq))

    def fault_nmi(self, vm):
        self.moments.append(("nmi", vm))

    def fault_clock(self, vm, delta_ns):
        self.values["clock_offset_ns", vm] = self.values.get(("clock_offset_ns", vm), 0) + delta_ns
        self.moments.append(("clock", vm, delta_ns))

    def fault_signal(self, vm, process, signal):
        self.moments.append(("signal", vm, process, signal))

    def is_what_is_active(self, engine):
        want = effects_of(engine.active, VMS)
        assert all(self.links.get(link, LinkEffect()) == effect for link, effect in want.links.items())
        assert all(self.disks.get(vm, DiskEffect()) == effect for vm, effect in enumerate(want.disks))
        for vm, effect in enumerate(want.machines):
            for field in dataclasses.fields(MachineEffect):
                if field.name != "clock_offset_ns":
                    value = self.values.get((field.name, vm), field.default)
                    assert value == getattr(effect, field.name), field.name


# ---- types -----------------------------------------------------------------------------------------------------------

vm_numbers = st.integers(0, VMS - 1)
FIELDS = {
    "peer": st.none(),
    "direction": st.sampled_from(["both", "out", "in"]),
    "rate_ppm": st.integers(0, 1_000_000),
    "disk": st.sampled_from(["lose", "some", "torn"]),
    "silent": st.booleans(),
    "irq": st.integers(0, 15).filter(lambda irq: irq != 2),
    "signal": st.integers(1, 64),
    "factor": st.integers(1, 1000),
    "factor_permille": st.integers(1, 10_000_000),
    "bytes_per_sec": st.integers(1, 10**12),
    "take_bytes": st.integers(4096, 1 << 30),
    "process": st.text(min_size=1, max_size=20).filter(lambda name: "\0" not in name),
    "offset_ns": st.integers(1, 10**12) | st.integers(-(10**12), -1),
    "delta_ns": st.integers(1, 10**12) | st.integers(-(10**12), -1),
    "max_ns": st.integers(1, 10**9),
    "window_ns": st.integers(1, 10**9),
}


@st.composite
def faults(draw, kinds=tuple(FAULTS)):
    cls = FAULTS[draw(st.sampled_from(kinds))]
    names = [field.name for field in dataclasses.fields(cls)]
    if "side_a" in names:
        order = draw(st.permutations(range(VMS)))
        cut = draw(st.integers(1, VMS - 1))
        return cls(tuple(order[:cut]), tuple(order[cut:]))
    values = {}
    for name in names:
        if name == "target":
            values[name] = draw(vm_numbers)
        elif name == "rate_ppm" and cls is ClockSkew:
            values[name] = draw(st.integers(-500_000, 1_000_000))
        else:
            values[name] = draw(FIELDS.get(name, st.integers(0, 10**9)))
    return cls(**values)


@st.composite
def scheduled(draw):
    fault = draw(faults())
    duration = draw(st.none() | st.integers(1, 50 * MS)) if fault.LASTS else None
    return ScheduledFault(draw(st.integers(0, 100 * MS)), fault, duration)


schedules = st.builds(FaultSchedule, st.lists(scheduled(), max_size=12).map(tuple), st.sampled_from(["boot", "branch"]))


@given(schedules)
def test_a_schedule_in_text_is_the_same_schedule(schedule):
    text = schedule.to_toml()
    again = FaultSchedule.from_toml(text)
    assert again.faults == schedule.faults and again.origin == schedule.origin
    assert again.to_toml() == text


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: NetworkPartition((0, 1), (1, 2)), "machine 1 is on both sides"),
        (lambda: NetworkPartition((), (1,)), "side_a"),
        (lambda: PacketLoss(0, 1_000_001), "rate_ppm cannot be 1000001; give parts per million from 0 to 1000000"),
        (lambda: NetworkLatency(0, -1), "latency_ns"),
        (lambda: NetworkLatency(0, 1, peer=0), "no link to itself"),
        (lambda: NetworkLatency(0, 1, direction="up"), "both, out or in"),
        (lambda: ProcessKill(-1), "target"),
        (lambda: ProcessKill(10**5000), "target cannot be such a number"),
        (lambda: NetworkLatency(0, 10**5000), "nanoseconds from 0 to"),
        (lambda: ScheduledFault(10**5000, HealAll()), "give a time from 0 to"),
        (lambda: NetworkBandwidth(0, 0), "bytes_per_sec cannot be 0; give bytes per second from 1 to"),
        (lambda: InjectInterrupt(0, 2), "irq cannot be 2"),
        (lambda: DiskTornWrite(0, silent=1), "silent cannot be 1; give true or false"),
        (lambda: SignalProcess(0, "a\0b"), "process"),
        (lambda: FaultScheduleBuilder("noon"), "use boot, setup, branch"),
        (lambda: ProcessKill(0, "all"), "lose, some or torn"),
        (lambda: ClockSkew(0), "give one of them"),
        (lambda: ClockJump(0), "delta_ns"),
        (lambda: SignalProcess(0, ""), "process"),
        (lambda: ScheduledFault(-1, HealAll()), "cannot start at -1 ns"),
        (lambda: ScheduledFault(0, HealAll(), 5), "leave its duration out"),
        (lambda: ScheduledFault(0, DiskFull(0), 0), "cannot last 0 ns"),
        (lambda: FaultSchedule((ScheduledFault(0, DiskFull(3)),)).check(3), "machines are 0 to 2"),
        (lambda: FaultEngine(2).inject(ProcessKill(2), 0, Told()), "machines are 0 to 1"),
    ],
)
def test_what_cannot_be_says_why_in_one_line(make, says):
    with pytest.raises(FaultError) as caught:
        make()
    assert says in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("origin = ", "not TOML"),
        ('origin = "noon"', "use boot, setup, branch"),
        ("fault = 3", "write [[fault]]"),
        ("faults = []", "there is no field 'faults'; the fields are origin, fault"),
        ('[[fault]]\nat = 1\nkind = "fire"', "kind is one of network_partition"),
        ("[[fault]]\nat = 1", "it has no kind"),
        ('[[fault]]\nkind = "heal_all"', "at is missing"),
        ('[[fault]]\nat = "-1 ms"\nkind = "heal_all"', "at cannot be negative"),
        ('[[fault]]\nat = "1 h"\nkind = "heal_all"', "units: ns, us, ms, s"),
        ('[[fault]]\nat = "0.5 ns"\nkind = "heal_all"', "no whole number"),
        ('[[fault]]\nat = 1\nkind = "heal_all"\nfor = "1 s"', "leave its duration out"),
        ('[[fault]]\nat = 1\nkind = "packet_loss"\ntarget = 0', "rate_ppm is missing; its fields are at, for, target,"),
        ('[[fault]]\nat = 1\nkind = "packet_loss"\ntarget = true\nrate_ppm = 1', "target cannot be True"),
        ('[[fault]]\nat = 1\nkind = "packet_loss"\ntarget = 0\nrate = 1', "there is no field 'rate'"),
        ('[[fault]]\nat = 1\nkind = "network_partition"\nside_a = [0]\nside_b = ["x"]', "side_b"),
    ],
)
def test_bad_text_names_the_field(text, says):
    with pytest.raises(FaultError) as caught:
        FaultSchedule.from_toml(text, where="plan.toml")
    assert says in str(caught.value) and "\n" not in str(caught.value)
    assert str(caught.value).startswith("plan.toml")


# ---- anything at all: a fault, or one line that says why not ---------------------------------------------------------

numbers = st.integers() | st.sampled_from([-1, 0, 1_000_001, 10**15 + 1, 1 << 64, 10**400]) | st.floats()
junk = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=8) | st.just("\ud800") | st.sampled_from(["1.5 ms", "both"]),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=4), values, max_size=3),
    max_leaves=6,
)
field_names = sorted({field.name for cls in FAULTS.values() for field in dataclasses.fields(cls)})


def is_one_line(error):
    text = str(error)
    return isinstance(error, UsageError) and "\n" not in text and len(text) < 2000


@st.composite
def tables(draw):
    """A schedule as tomllib might read it, with some of it replaced by junk, left out or added."""
    entries = []
    for scheduled_fault in draw(st.lists(scheduled(), max_size=3)):
        fault = scheduled_fault.fault
        entry = {"kind": fault.kind(), "at": scheduled_fault.at_ns}
        entry |= {field.name: getattr(fault, field.name) for field in dataclasses.fields(fault)}
        if scheduled_fault.duration_ns is not None:
            entry["for"] = scheduled_fault.duration_ns
        for name in draw(st.lists(st.sampled_from([*field_names, "kind", "at", "for", "x"]), max_size=3)):
            entry[name] = draw(junk)
        if draw(st.booleans()):
            entry.pop(draw(st.sampled_from(sorted(entry))))
        entries.append(entry)
    table = {"fault": draw(junk) if draw(st.integers(0, 9)) == 0 else entries, "origin": "boot"}
    return table | draw(st.dictionaries(st.sampled_from(["origin", "fault", "other"]), junk, max_size=1))


@settings(max_examples=150)
@given(tables())
def test_any_table_is_a_schedule_or_one_line(table):
    try:
        schedule = FaultSchedule.from_table(table)
        schedule.check(VMS)
    except UsageError as e:
        assert is_one_line(e)
    else:
        assert FaultSchedule.from_toml(schedule.to_toml()) == schedule


@settings(max_examples=150)
@given(schedules, st.data())
def test_any_text_is_a_schedule_or_one_line(schedule, data):
    """A valid text of which a piece is replaced by another one."""
    text = schedule.to_toml()
    pieces = st.text(max_size=10) | st.sampled_from(
        ["-", "9" * 5000, "[" * 5000, '"', "\n", "[[fault]]", "true", "= ="]
    )
    at, length = data.draw(st.integers(0, len(text))), data.draw(st.integers(0, 12))
    changed = text[:at] + data.draw(pieces) + text[at + length :]
    try:
        again = FaultSchedule.from_toml(changed)
    except UsageError as e:
        assert is_one_line(e)
    else:
        assert FaultSchedule.from_toml(again.to_toml()) == again


@settings(max_examples=150)
@given(faults(), st.data())
def test_any_field_is_taken_or_refused_by_its_name(fault, data):
    names = [field.name for field in dataclasses.fields(fault)]
    values = {name: getattr(fault, name) for name in names}
    changed = data.draw(st.lists(st.sampled_from(names), max_size=2)) if names else []
    values |= {name: data.draw(junk) for name in changed}
    try:
        made = type(fault)(**values)
    except FaultError as e:
        assert is_one_line(e) and changed
        # Each message names the field, or the machine that is named twice.
        assert any(name in str(e) for name in changed) or "machine" in str(e)
    else:
        schedule = FaultSchedule((ScheduledFault(0, made),))
        assert FaultSchedule.from_toml(schedule.to_toml()) == schedule


@given(faults(), junk, junk)
def test_any_time_is_taken_or_refused(fault, at, duration):
    try:
        made = ScheduledFault(at, fault, duration)
    except FaultError as e:
        assert is_one_line(e)
    else:
        assert type(made.at_ns) is int and type(made.duration_ns) in (int, type(None))


@given(junk)
def test_any_origin_is_taken_or_refused(origin):
    try:
        made = FaultScheduleBuilder(origin).build()
    except FaultError as e:
        assert is_one_line(e) and "use boot, setup, branch" in str(e)
    else:
        assert made.origin in ("boot", "setup", "branch")


@given(st.integers(0, 10**15))
def test_times_in_text_are_exact(ns):
    assert parse_ns(format_ns(ns)) == ns


def test_every_kind_has_a_letter_of_its_own():
    assert len({kind.LETTER for kind in FAULTS.values()} - {"?"}) == len(FAULTS)


def test_times_are_short():
    assert [format_ns(n) for n in (0, 7, 250_000, 1_500_000, 10**9)] == ["0 ns", "7 ns", "250 us", "1.5 ms", "1 s"]


# ---- effects ---------------------------------------------------------------------------------------------------------


@given(st.lists(faults(), max_size=8), st.randoms(use_true_random=False))
def test_effects_do_not_depend_on_the_order(active, rng):
    shuffled = list(active)
    rng.shuffle(shuffled)
    a, b = effects_of(active, VMS), effects_of(shuffled, VMS)
    assert a.links.keys() == b.links.keys()
    for link in a.links:
        one, two = a.links[link], b.links[link]
        # Chances are rounded up in each step, so orders may differ in the last millionths.
        for field in dataclasses.fields(LinkEffect):
            x, y = getattr(one, field.name), getattr(two, field.name)
            assert x == y or (field.name.endswith("ppm") and abs(x - y) <= len(active))


def test_overlapping_faults_combine():
    active = [
        PacketLoss(0, 500_000),
        PacketLoss(0, 500_000, peer=1, direction="out"),
        NetworkLatency(1, 5),
        NetworkLatency(0, 7),
        NetworkBandwidth(2, 100),
        NetworkBandwidth(2, 50),
        OneWayPartition((0,), (2,)),
        CpuSlowdown(1, 5),
        CpuSlowdown(1, 4),
    ]
    effects = effects_of(active, VMS)
    assert effects.links[0, 1].loss_ppm == 750_000 and effects.links[1, 0].loss_ppm == 500_000
    assert effects.links[0, 1].latency_ns == effects.links[1, 0].latency_ns == 12
    assert effects.links[1, 2].bytes_per_sec == 50 and effects.links[0, 1].bytes_per_sec is None
    assert effects.links[0, 2].down and not effects.links[2, 0].down
    assert effects.machines[1].slowdown == 20


# ---- the engine ------------------------------------------------------------------------------------------------------


def run(engine, cluster, until_ns, now_ns=0):
    """As a cluster does: run to the next change, apply, go on."""
    engine.apply_due(now_ns, cluster)
    while (due := engine.next_ns()) is not None and due < until_ns:
        engine.apply_due(due, cluster)
        cluster.is_what_is_active(engine)


@settings(deadline=None)
@given(schedules)
def test_at_every_moment_the_cluster_has_what_is_active(schedule):
    engine, cluster = FaultEngine(VMS, schedule), Told()
    run(engine, cluster, 1000 * MS)
    assert engine.next_ns() is None
    engine.inject(HealAll(), 1000 * MS, cluster)
    assert not engine.active
    cluster.is_what_is_active(engine)
    begun = [change.number for change in engine.take_log() if change.begins]
    assert begun == list(range(len(schedule.faults) + 1))


@settings(deadline=None)
@given(schedules, st.integers(0, 150 * MS))
def test_going_back_takes_the_faults_back(schedule, at):
    engine, cluster = FaultEngine(VMS, schedule), Told()
    run(engine, cluster, at)
    state, active, there = engine.state(), engine.active, copy.deepcopy(cluster)
    engine.take_log()
    run(engine, cluster, 1000 * MS, at)
    log = engine.take_log()
    engine.restore(state)
    assert engine.active == active
    run(engine, there, 1000 * MS, at)
    assert engine.take_log() == log and vars(there) == vars(cluster)


def test_a_kill_ends_with_a_boot():
    schedule = FaultScheduleBuilder("boot").between_ns(5, 9, ProcessKill(1, "torn")).at_ns(20, ProcessKill(1)).build()
    engine, cluster = FaultEngine(VMS, schedule), Told()
    run(engine, cluster, 100)
    assert cluster.moments == [("off", 1, "torn"), ("boot", 1), ("off", 1, "some")]
    engine.inject(ProcessRestart(1), 100, cluster)
    assert cluster.moments[3:] == [("boot", 1)] and not engine.active
    engine.inject(ProcessRestart(1, "lose"), 101, cluster)
    assert cluster.moments[4:] == [("off", 1, "lose"), ("boot", 1)]


def test_a_network_heal_leaves_the_rest():
    engine, cluster = FaultEngine(VMS), Told()
    for fault in (NetworkPartition((0,), (1,)), ProcessPause(2), DiskFull(0)):
        engine.inject(fault, 0, cluster)
    engine.inject(NetworkHeal(), 1, cluster)
    assert engine.active == (ProcessPause(2), DiskFull(0))


def test_a_schedule_waits_for_setup():
    engine, cluster = FaultEngine(VMS, FaultScheduleBuilder().at_ns(10, DiskFull(0)).build()), Told()
    engine.apply_due(10**9, cluster)
    assert engine.waits_for_setup and engine.next_ns() is None and not engine.active
    engine.setup_complete(2 * 10**9)
    assert engine.next_ns() == 2 * 10**9 + 10
    engine.apply_due(2 * 10**9 + 10, cluster)
    assert engine.active == (DiskFull(0),)


def test_a_clock_offset_is_taken_back_at_its_end():
    schedule = FaultScheduleBuilder("branch").between_ns(0, 5, ClockSkew(2, offset_ns=-70)).build()
    engine, cluster = FaultEngine(VMS, schedule, now_ns=100), Told()
    engine.apply_due(100, cluster)
    engine.apply_due(105, cluster)
    assert cluster.moments == [("clock", 2, -70), ("clock", 2, 70)]
