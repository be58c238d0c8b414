"""Scenario files and random schedules."""

import tomllib
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaoscontrol.errors import UsageError
from chaoscontrol.explore.blind import plan_branch
from chaoscontrol.explore.random_faults import draw_schedule, log_uniform
from chaoscontrol.faults import FAULTS, NETWORK_FAULTS, FaultSchedule, Origin, SignalProcess
from chaoscontrol.random import Stream
from chaoscontrol.scenario import GROUPS, load_scenario, parse_scenario, scenario_names


def parse(text):
    return parse_scenario(tomllib.loads(text), where="plan.toml")


def test_every_scenario_that_comes_along_can_be_read():
    for name in scenario_names():
        scenario = load_scenario(name)
        for variant in scenario.variants:
            assert load_scenario(f"{name}/{variant}").cmdline.endswith(scenario.variants[variant])
        names = [result.name for prop in scenario.properties() for result in prop.results()]
        assert len(names) == len(set(names)) and names


def test_what_a_scenario_says():
    scenario = parse(
        """
        name = "two"
        origin = "branch"
        [machines]
        count = 2
        memory_mib = 64
        initrd = "hello"
        [disk]
        size_mib = 8
        [network]
        latency_us = 250
        [setup]
        console = "ready"
        [phases]
        chaos_ms = 3
        settle_ms = 4
        [faults]
        process = true
        process_kill = false
        disk = ["torn_write", "slow_disk"]
        [[fault]]
        at = "1 ms"
        kind = "disk_full"
        target = 1
        """
    )
    assert (scenario.count, scenario.memory_bytes, scenario.disk_bytes) == (2, 64 << 20, 8 << 20)
    assert scenario.network and scenario.latency_ns == 250_000
    assert scenario.wait_for_console == "ready" and not scenario.wait_for_setup
    assert [kind.kind() for kind in scenario.faults] == [
        "disk_torn_write", "slow_disk", "process_restart", "process_pause",
    ]  # fmt: skip
    assert len(scenario.schedule.faults) == 1 and scenario.schedule.origin is Origin.BRANCH


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "name cannot be None"),
        ('name = "x"\nnmae = 3', "there is no field 'nmae'"),
        ('name = "x"\nmachines = 3', "give a table, [machines]"),
        ('name = "x"\n[machines]\ncount = 0', "[machines] count cannot be 0; give a whole number from 1 to 256"),
        ('name = "x"\n[machines]\ncount = true', "[machines] count cannot be True"),
        ('name = "x"\n[machines]\nkernel = "nope"', "there is no guest image 'nope'"),
        ('name = "x"\n[setup]\nwait_for = "tea"', "[setup] wait_for cannot be 'tea'"),
        ('name = "x"\n[setup]\nwait_for = "console"', "[setup] wait_for"),
        ('name = "x"\n[console]\nnever = ["("]', "[console] never cannot be '('"),
        ('name = "x"\n[console]\nnever = "a"', "a list of regular expressions"),
        ('name = "x"\n[console]\nnever = [3]', "[console] never cannot be 3; give texts, each a regular expression"),
        (f'name = "x"\n[machines]\ncount = 0x{"f" * 5000}', "[machines] count cannot be such a number"),
        (f'name = "x"\n[machines]\ncount = "{"1" * 5000}"', f"count cannot be '{'1' * 79}...; give"),
        ('name = "x"\n[faults]\nfire = true', "[faults] has no field 'fire'"),
        ('name = "x"\n[faults]\nnetwork = 1', "give true or false"),
        ('name = "x"\n[faults]\nsignal_process = true', 'give a list of processes\' names, as ["sshd"]'),
        ('name = "x"\n[faults]\nsignal_process = [""]', "give a process's name"),
        ('name = "x"\n[faults]\ndisk = ["wet"]', "[faults] disk cannot be 'wet'"),
        ('name = "x"\n[[fault]]\nat = 1\nkind = "disk_full"\ntarget = 1', "there is no machine 1"),
        ('name = "x"\n[phases]\nchaos_ms = -1', "[phases] chaos_ms cannot be -1"),
    ],
)
def test_mistakes_name_the_field(text, says):
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert says in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["nothing", "raft/nothing", "./missing.toml"])
def test_unknown_scenarios_say_what_there_is(name):
    with pytest.raises(UsageError) as caught:
        load_scenario(name)
    assert "\n" not in str(caught.value)


def test_observers_that_cannot_be_loaded():
    for name in ("nomodule:X", "json:Nope", "json", ":", "json:dumps"):
        scenario = parse(f'name = "x"\n[properties]\nobserver = "{name}"')
        with pytest.raises(UsageError, match="cannot be loaded"):
            scenario.properties()


def test_groups_name_faults():
    assert {name for group in GROUPS.values() for name in group} <= set(FAULTS)


@given(
    st.integers(0, 1 << 63),
    st.integers(1, 5),
    st.integers(10**6, 10**11),
    st.sets(st.sampled_from(list(FAULTS.values()))),
)
def test_random_schedules_fit_their_branch(seed, num_vms, span_ns, kinds):
    kinds = [kind for kind in FAULTS.values() if kind in kinds]
    processes = ("raft", "a b")
    schedule = draw_schedule(Stream(seed, "search"), kinds, num_vms, span_ns, processes=processes)
    schedule.check(num_vms)
    assert schedule.end_ns <= span_ns and schedule.origin is Origin.BRANCH
    assert {type(s.fault) for s in schedule.faults} <= set(kinds)
    assert all(s.duration_ns is not None or not s.fault.LASTS for s in schedule.faults)
    if num_vms == 1:
        assert not any(isinstance(s.fault, NETWORK_FAULTS) for s in schedule.faults)
    assert FaultSchedule.from_toml(schedule.to_toml()) == schedule
    assert draw_schedule(Stream(seed, "search"), kinds, num_vms, span_ns, processes=processes) == schedule
    assert {s.fault.process for s in schedule.faults if isinstance(s.fault, SignalProcess)} <= set(processes)


def test_signals_are_drawn_where_a_scenario_names_processes():
    named = parse('name = "x"\n[faults]\nsignal_process = ["raft", "sshd"]\nclock = true')
    assert SignalProcess in named.faults and named.processes == ("raft", "sshd")
    drawn = {
        (fault.process, fault.signal)
        for number in range(50)
        for scheduled in plan_branch(named, 1, number).schedule.faults
        if isinstance(fault := scheduled.fault, SignalProcess)
    }
    assert drawn == {(process, signal) for process in named.processes for signal in (9, 15, 18, 19)}
    assert parse('name = "x"\n[faults]\nsignal_process = []').faults == ()
    assert draw_schedule(Stream(1, "search"), [SignalProcess], 3, 10**9).faults == ()


def test_a_search_of_raft_draws_what_it_always_drew():
    """A search's seed is a promise: what was found under it is found again."""
    drawn = sha256()
    for seed in range(3):
        for number in range(50):
            drawn.update(plan_branch(load_scenario("raft"), seed, number).schedule.to_toml().encode())
    assert drawn.hexdigest() == "9792cc2f31db1ec704d3445781e44527b41ea2c6da66da3fa200ec78da1070cf"


@given(st.integers(0, 1 << 63), st.integers(1, 10**6), st.integers(1, 10**12))
def test_log_uniform_stays_inside(seed, low, more):
    assert low <= log_uniform(Stream(seed), low, low + more) <= low + more


def test_log_uniform_reaches_every_magnitude():
    stream = Stream(3, "spread")
    values = [log_uniform(stream, 1_000, 1_000_000_000) for _ in range(2000)]
    for magnitude in range(3, 9):
        share = sum(10**magnitude <= value < 10 ** (magnitude + 1) for value in values) / len(values)
        assert 0.08 < share < 0.28, magnitude
