"""The words of `likelihood`."""

import pytest

from cc_tui.commands import CommandError, parse
from cc_tui.commands.likelihood import FindLikelihood
from chaoscontrol.faults import TimerJitter

FORMS = [
    "likelihood", 'likelihood "one leader"', "likelihood samples 5 back 100ms resolution 1ns margin 0ns seed 7",
    'likelihood "samples" samples 5', "likelihood when register vm0 rax == 0x1",
    "likelihood samples 3 when not future open", "likelihood with timer_jitter target=0 max_ns=1000",
    "likelihood x back 3ms with network_partition side_a=0 side_b=1 for=2s",
]  # fmt: skip


@pytest.mark.parametrize("line", FORMS)
def test_every_form_writes_what_it_reads(line):
    command = parse(line)
    assert isinstance(command, FindLikelihood)
    assert parse(command.text) == command


def test_the_words_are_told_apart():
    assert parse('likelihood "seed"') == FindLikelihood("seed")
    assert parse("likelihood seed 3") == FindLikelihood(seed=3)
    assert parse("likelihood back 20t") == FindLikelihood(back_ns=2_000_000)
    command = parse("likelihood with timer_jitter target=1")
    assert isinstance(command, FindLikelihood)
    assert command.fault is not None
    assert command.fault.fault == TimerJitter(1)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("likelihood samples", "likelihood: a number is missing; write likelihood [PROPERTY] [samples N]"),
        ("likelihood samples 0", "not a count: '0'"),
        ("likelihood samples 20000", "20000 samples of a moment; give 1 to 10000"),
        ("likelihood back 0s", "a time of 0 leads nowhere"),
        ("likelihood back soon", "write 250us"),
        ("likelihood p q", "'q' is too much"),
        ("likelihood p when future open", "a property and a condition are too much"),
        ("likelihood when weather", "'weather' is no condition; there are branch"),
        ("likelihood with weather", "weather"),
        ("likelihood seed x", "x"),
    ],
)
def test_mistakes_are_named(line, message):
    with pytest.raises(CommandError) as caught:
        parse(line)
    assert message in str(caught.value)
