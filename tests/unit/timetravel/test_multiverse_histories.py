"""Any sequence of running, going back, forking, typing, cancelling, and of deleting, renaming and annotating branches:
every position is what a plain run gives, and every moment that was ever printed means what it meant, or is refused.

The reference is a fresh cluster that is given the same inputs at the same times and run straight to the position: no
snapshots, no keyframes, no segments.
"""

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from toys.cluster import ToyCluster

from chaoscontrol.timetravel import (
    BranchError,
    CancelledError,
    ConsoleInput,
    Moment,
    Multiverse,
    Observer,
    UnreachableError,
)

HORIZON_NS = 1_500_000
texts = st.sampled_from([b"a", b"hello\r", b"x" * 70, b"\r", b"off\r", b"crash\r", bytes(range(40))])


class Listener(Observer):
    """Knows the tree from what it is told alone."""

    def __init__(self) -> None:
        self.parents: dict[str, str | None] = {}
        self.notes: dict[str, str] = {}
        self.marks: dict[str, tuple[Moment, str]] = {}

    def branch_made(self, name, parent, start):
        assert name not in self.parents
        self.parents[name] = parent

    def branch_renamed(self, name, new):
        self.parents = {
            new if own == name else own: new if parent == name else parent for own, parent in self.parents.items()
        }
        self.notes = {new if own == name else own: note for own, note in self.notes.items()}

    def branch_deleted(self, name):
        assert name not in self.parents.values()
        del self.parents[name]
        self.notes.pop(name, None)

    def input_given(self, branch, given):
        assert branch in self.parents

    def keyframe_taken(self, branch, keyframe):
        assert branch in self.parents

    def marked(self, name, moment):
        self.marks[name] = moment, ""

    def annotated(self, branch, mark, text):
        assert branch in self.parents
        if mark is None:
            self.notes[branch] = text
        else:
            self.marks[mark] = self.marks[mark][0], text


class Histories(RuleBasedStateMachine):
    @initialize(
        count=st.integers(1, 3),
        quantum_ns=st.sampled_from([7_000, 10_000, 100_000]),
        ns_per_insn=st.sampled_from([1, 1, 3]),
        keyframe_insns=st.sampled_from([100, 1_000, 100_000]),
        density=st.sampled_from([2, 8]),
        budget_pages=st.sampled_from([3, 1_000]),
    )
    def begin(self, count, quantum_ns, ns_per_insn, keyframe_insns, density, budget_pages):
        self.shape = {"count": count, "quantum_ns": quantum_ns, "ns_per_insn": ns_per_insn}
        self.cluster = ToyCluster(**self.shape)
        self.multiverse = Multiverse(
            self.cluster, keyframe_insns=keyframe_insns, density=density, budget_bytes=budget_pages * 4096
        )
        self.seen: dict[str, tuple[Moment, list[bytes]]] = {}
        self.names = {"main": "main"}
        """What every name that was ever given means now; empty: a branch that was deleted."""
        self.notes: dict[str, str] = {}
        self.listener = Listener()
        self.multiverse.observe(self.listener)

    def consoles(self) -> list[bytes]:
        multiverse = self.multiverse
        return [log.read(0, n) for log, n in zip(multiverse.consoles(), multiverse.console_totals, strict=True)]

    @invariant()
    def is_what_a_plain_run_gives(self):
        multiverse, plain = self.multiverse, ToyCluster(**self.shape)
        position = multiverse.position
        for given in multiverse.inputs():
            if given.after <= position:
                plain.run_to_vns(given.at.vns)
                vm = plain.vms[given.input.machine]
                assert vm.instret == given.instret
                assert vm.console_input(given.input.data) == len(given.input.data)
        plain.run_to_vns(position.vns)
        assert [str(vm.digest()) for vm in plain.vms] == [str(vm.digest()) for vm in multiverse.machines]
        sent = [vm.take_serial_bytes() for vm in plain.vms]
        assert sent == self.consoles()
        for vm, log, total in zip(plain.vms, multiverse.consoles(), multiverse.console_totals, strict=True):
            lines = [(log.line_start(line), log.line_vns(line)) for line in range(log.lines_begun(total))]
            assert set(lines) <= {(mark.offset, mark.vns) for mark in vm.take_console_marks()}
            assert [start for start, _ in lines] == [
                at for at in range(total) if at == 0 or log.read(at - 1, at) == b"\n"
            ]
        moment = multiverse.moment()
        assert Moment.parse(str(moment)) == moment
        before = self.seen.setdefault(moment.brief, (moment, sent))
        assert before == (moment, sent)

    @invariant()
    def the_tree_is_what_was_made_of_it(self):
        branches = self.multiverse.branches()
        names = [branch.name for branch in branches]
        assert set(names) == set(filter(None, self.names.values()))
        for name, now in self.names.items():
            if now:
                assert self.multiverse.find_branch(name).name == now
            else:
                with pytest.raises(BranchError, match=f"branch '{name}' was deleted"):
                    self.multiverse.find_branch(name)
        assert {branch.name: branch.note for branch in branches} == {name: self.notes.get(name, "") for name in names}
        parents = {branch.name: branch.parent and branch.parent.branch for branch in branches}
        assert self.listener.parents == parents
        assert self.listener.notes == self.notes
        assert self.cluster.store.bytes_held == 4096 * sum(branch.keyframes for branch in branches)
        marks = self.multiverse.marks
        for name, mark in marks.items():
            assert mark.moment.branch in names
            told, note = self.listener.marks[name]
            assert (told.position, told.machines, note) == (mark.moment.position, mark.moment.machines, mark.note)

    @rule(span=st.integers(1, 300_000))
    def run(self, span):
        vns = min(self.multiverse.position.vns + span, HORIZON_NS)
        self.multiverse.run_to(vns)
        assert self.multiverse.position.vns == max(vns, self.multiverse.position.vns)

    @rule(count=st.integers(-40, 10))
    def tick(self, count):
        quantum_ns, vns = self.shape["quantum_ns"], self.multiverse.position.vns
        self.multiverse.step_ticks(count)
        if count > 0:
            assert self.multiverse.position.vns == (vns // quantum_ns + count) * quantum_ns
        assert self.multiverse.position.vns % quantum_ns == 0 or count == 0

    @rule(count=st.integers(-900, 300), machine=st.integers(0, 2))
    def insn(self, count, machine):
        machine %= self.shape["count"]
        before = self.multiverse.instrets[machine]
        if before + count < 0:
            with pytest.raises(UnreachableError):
                self.multiverse.step_insns(machine, count)
            return
        try:
            self.multiverse.step_insns(machine, count)
        except UnreachableError:
            assert any(ending.machine == machine for ending in self.multiverse.endings())
        else:
            assert self.multiverse.instrets[machine] == before + count

    @rule()
    def remember(self):
        self.multiverse.moment(remember=True)

    @precondition(lambda self: self.seen)
    @rule(data=st.data())
    def revisit(self, data):
        moment, _ = data.draw(st.sampled_from(sorted(self.seen.values(), key=lambda entry: str(entry[0]))))
        name = self.names[moment.branch]
        if name:
            self.multiverse.goto(moment)
            assert self.multiverse.moment() == Moment(name, moment.position, moment.machines)
        else:
            before = self.multiverse.moment()
            with pytest.raises(BranchError, match="was deleted"):
                self.multiverse.goto(moment)
            assert self.multiverse.moment() == before

    @precondition(lambda self: self.multiverse.marks)
    @rule(data=st.data())
    def visit_mark(self, data):
        mark = data.draw(st.sampled_from(list(self.multiverse.marks.values())))
        self.multiverse.goto(mark.moment)
        assert self.multiverse.moment() == mark.moment

    @rule(name=st.sampled_from(["m1", "m2"]))
    def mark(self, name):
        if name in self.names:
            with pytest.raises(BranchError, match=name):
                self.multiverse.mark(name)
        else:
            assert self.multiverse.mark(name) == self.multiverse.moment()

    @rule(data=st.data(), text=st.sampled_from(["", "a note", "né\n2"]))
    def annotate(self, data, text):
        names = [branch.name for branch in self.multiverse.branches()]
        name = data.draw(st.sampled_from([*names, *self.multiverse.marks]))
        self.multiverse.annotate(name, text)
        if name in names:
            self.notes[name] = text.replace("\n", " ")

    @rule(data=st.data(), new=st.sampled_from(["x", "y", "b1", "main", "m1"]))
    def rename(self, data, new):
        branch = data.draw(st.sampled_from(self.multiverse.branches()))
        free = new not in self.names and new not in self.multiverse.marks
        if not free and (new not in branch.former or new in self.multiverse.marks):
            with pytest.raises(BranchError, match=new):
                self.multiverse.rename_branch(branch.name, new)
            return
        self.multiverse.rename_branch(branch.name, new)
        self.names = {name: new if now == branch.name else now for name, now in self.names.items()} | {new: new}
        if branch.name in self.notes:
            self.notes[new] = self.notes.pop(branch.name)

    @rule(data=st.data(), recursive=st.booleans())
    def delete(self, data, recursive):
        multiverse = self.multiverse
        branches = multiverse.branches()
        name = data.draw(st.sampled_from([branch.name for branch in branches]))
        doomed = [name]
        for branch in branches:
            if branch.parent is not None and branch.parent.branch in doomed:
                doomed.append(branch.name)
        before, marks = multiverse.moment(), multiverse.marks
        if self.names["main"] in doomed or multiverse.branch.name in doomed or (len(doomed) > 1 and not recursive):
            with pytest.raises(BranchError, match=name):
                multiverse.delete_branch(name, recursive=recursive)
            assert multiverse.branches() == branches
        else:
            deleted = multiverse.delete_branch(name, recursive=recursive)
            assert list(deleted.branches) == doomed
            assert set(deleted.marks) == set(marks) - set(multiverse.marks)
            self.names = {name: "" if now in doomed else now for name, now in self.names.items()}
            self.notes = {name: note for name, note in self.notes.items() if name not in doomed}
        assert multiverse.moment() == before

    @rule(vns=st.integers(0, HORIZON_NS), data=st.data())
    def goto_time(self, vns, data):
        branch = data.draw(st.sampled_from([branch.name for branch in self.multiverse.branches()]))
        self.multiverse.goto_time(vns, branch=branch)
        assert self.multiverse.position.vns == vns

    @rule(data=st.data())
    def goto_end(self, data):
        branch = data.draw(st.sampled_from([branch.name for branch in self.multiverse.branches()]))
        self.multiverse.goto_end(branch)
        assert self.multiverse.at_end
        assert self.multiverse.branch.name == branch

    @rule()
    def fork(self):
        if len(self.multiverse.branches()) < 6:
            self.fork_here()
            assert self.multiverse.at_end

    def fork_here(self):
        head = self.multiverse.fork()
        assert head.branch == self.multiverse.branch.name
        assert head.branch not in self.names
        self.names[head.branch] = head.branch
        return head

    @rule(machine=st.integers(0, 2), text=texts)
    def type(self, machine, text):
        head = self.multiverse.head()
        assert (head is not None) == self.multiverse.at_end
        if head is None and len(self.multiverse.branches()) < 6:
            head = self.fork_here()
        if head is not None:
            taken = head.give(ConsoleInput(machine % self.shape["count"], text))
            assert taken is None or text.startswith(taken.input.data)

    @rule(data=st.data())
    def goto_console(self, data):
        machine = data.draw(st.integers(0, self.shape["count"] - 1))
        total = self.multiverse.console_totals[machine]
        wanted = data.draw(st.integers(0, total))
        self.multiverse.goto_console(machine, wanted)
        assert self.multiverse.console_totals[machine] == wanted

    @precondition(lambda self: self.multiverse.position.vns < HORIZON_NS)
    @rule(text=st.sampled_from([b"beat", b"\n", b"said hello", b"never"]), machine=st.sampled_from([None, 0]))
    def until(self, text, machine):
        if self.multiverse.until(text, machine, limit_vns=HORIZON_NS):
            ends = [console.endswith(text) for console in self.consoles()]
            assert ends[machine] if machine is not None else any(ends)

    @precondition(lambda self: self.multiverse.position.vns < HORIZON_NS and not self.multiverse.all_stopped)
    @rule()
    def next_event(self):
        before = self.multiverse.position
        at_end = self.multiverse.at_end
        self.multiverse.next_event()
        assert self.multiverse.position > before
        assert self.multiverse.at_end or not at_end

    @rule()
    def previous_event(self):
        before = self.multiverse.position
        self.multiverse.previous_event()
        assert self.multiverse.position < before or before.vns == 0

    @rule(segments=st.integers(0, 6), vns=st.integers(0, HORIZON_NS), back=st.booleans())
    def cancel(self, segments, vns, back):
        left = segments

        def stop():
            nonlocal left
            left -= 1
            if left == 0:
                self.multiverse.cancel()

        self.multiverse.watch(stop)
        before = self.multiverse.moment()
        try:
            if back:
                self.multiverse.goto_time(vns)
            else:
                self.multiverse.run_to(vns)
        except CancelledError:
            assert not back or self.multiverse.moment() == before
        self.multiverse.watch(lambda: None)


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
