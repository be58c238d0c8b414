"""Branches are deleted, renamed and annotated; what was written down before keeps its meaning or is refused."""

import gc
import weakref

import pytest
from toys.cluster import PAGE_BYTES, ToyCluster

from chaoscontrol.timetravel import (
    NOTE_CHARS_MAX,
    BranchError,
    ConsoleInput,
    Deleted,
    Moment,
    Multiverse,
    PastError,
    Position,
)

FORKS = (("main", 100_000, "b1"), ("b1", 200_000, "b2"), ("b1", 300_000, "b3"), ("b2", 350_000, "b4"))


class Tree:
    """main with b1 from it, b2 and b3 from b1, and b4 from b2; the cursor is at main's end."""

    def __init__(self) -> None:
        self.cluster = ToyCluster(2)
        self.multiverse = Multiverse(self.cluster, keyframe_insns=1_000)
        self.multiverse.run_to(400_000)
        for parent, at, name in FORKS:
            self.multiverse.goto_time(at, branch=parent)
            self.multiverse.fork(name)
            self.multiverse.head().give(ConsoleInput(0, f"{name}\r".encode()))
            self.multiverse.run_to(400_000)
        self.multiverse.goto_end("main")

    @property
    def names(self) -> list[str]:
        return [branch.name for branch in self.multiverse.branches()]


@pytest.fixture
def tree() -> Tree:
    return Tree()


# ---- deleting -------------------------------------------------------------------------------------------------------


def test_a_deleted_branch_is_gone_and_its_snapshots_are_free_at_once(tree):
    multiverse, held = tree.multiverse, tree.cluster.store.bytes_held
    own = multiverse.find_branch("b3").keyframes
    assert own > 1
    assert multiverse.delete_branch("b3") == Deleted(("b3",), ())
    assert tree.names == ["main", "b1", "b2", "b4"]
    freed = held - tree.cluster.store.bytes_held
    assert freed == own * PAGE_BYTES
    assert multiverse.snapshot_bytes == tree.cluster.store.bytes_held


def test_those_that_fork_from_it_go_only_if_that_is_asked_for(tree):
    with pytest.raises(
        BranchError, match=r"b2, b3, b4 fork from branch 'b1'; delete those first, or `delete-branch b1 all`"
    ) as caught:
        tree.multiverse.delete_branch("b1")
    assert "\n" not in str(caught.value)
    with pytest.raises(BranchError, match="b4 forks from branch 'b2'"):
        tree.multiverse.delete_branch("b2")
    assert tree.names == ["main", "b1", "b2", "b3", "b4"]
    assert tree.multiverse.delete_branch("b1", recursive=True) == Deleted(("b1", "b2", "b3", "b4"), ())
    assert tree.names == ["main"]
    assert tree.cluster.store.bytes_held == tree.multiverse.find_branch("main").keyframes * PAGE_BYTES


def test_nothing_that_the_cursor_stands_on_is_deleted(tree):
    multiverse = tree.multiverse
    multiverse.goto_time(150_000, branch="b4")
    with pytest.raises(BranchError, match="'b4' is the one that the cursor is on; go to another branch first"):
        multiverse.delete_branch("b4")
    with pytest.raises(BranchError, match="the cursor is on 'b4', which forks from 'b1'"):
        multiverse.delete_branch("b1", recursive=True)
    with pytest.raises(BranchError, match="'main' is the first one"):
        multiverse.delete_branch("main", recursive=True)
    assert tree.names == ["main", "b1", "b2", "b3", "b4"]


def test_what_an_excursion_comes_back_to_is_not_deleted(tree):
    multiverse = tree.multiverse
    multiverse.goto_end("b4")
    with multiverse.excursion():
        multiverse.goto_end("main")
        with pytest.raises(BranchError, match="the cursor is on 'b4', which forks from 'b2'"):
            multiverse.delete_branch("b2", recursive=True)
        multiverse.delete_branch("b3")
    with multiverse.throwaway() as head:
        head.give(ConsoleInput(0, b"x"))
        with pytest.raises(BranchError, match="'b4' is the one that the cursor is on"):
            multiverse.delete_branch("b4")
        with pytest.raises(BranchError, match="throwaway"):
            multiverse.mark("here")
    assert (multiverse.branch.name, multiverse.at_end) == ("b4", True)
    assert tree.names == ["main", "b1", "b2", "b4"]


def test_the_head_of_a_deleted_branch_gives_nothing(tree):
    multiverse = tree.multiverse
    multiverse.goto_end("b3")
    head = multiverse.head()
    multiverse.goto_end("main")
    multiverse.delete_branch("b3")
    with pytest.raises(PastError, match="branch 'b3' was deleted"):
        head.give(ConsoleInput(0, b"x"))


def test_moments_of_a_deleted_branch_are_refused_and_its_name_is_not_given_again(tree):
    multiverse = tree.multiverse
    multiverse.goto_time(350_000, branch="b3")
    moment = multiverse.moment()
    multiverse.goto_end("main")
    multiverse.rename_branch("b3", "third")
    multiverse.delete_branch("third")
    for name in ("b3", "third"):
        for ask in (multiverse.find_branch, multiverse.goto_end, multiverse.delete_branch, multiverse.told):
            with pytest.raises(BranchError, match=f"branch '{name}' was deleted; branches: main, b1, b2, b4"):
                ask(name)
        for give in (multiverse.fork, lambda name: multiverse.rename_branch("b1", name), multiverse.mark):
            with pytest.raises(BranchError, match=f"'{name}' was a branch that is deleted.*choose another"):
                give(name)
    with pytest.raises(BranchError, match="branch 'b3' was deleted"):
        multiverse.goto(moment)
    assert multiverse.fork().branch == "b5"


def test_what_is_left_of_the_tree_is_as_it_was(tree):
    multiverse = tree.multiverse
    moments = {}
    for name in ("main", "b1", "b2", "b4"):
        multiverse.goto_end(name)
        moments[name] = multiverse.moment()
    multiverse.delete_branch("b3")
    for moment in moments.values():
        multiverse.goto(moment)
        assert multiverse.moment() == moment
    multiverse.fork("again").give(ConsoleInput(0, b"more\r"))
    multiverse.run_to(500_000)


# ---- names ----------------------------------------------------------------------------------------------------------


def test_a_renamed_branch_keeps_its_place_and_its_former_names_lead_to_it(tree):
    multiverse = tree.multiverse
    multiverse.goto_time(250_000, branch="b1")
    moment = multiverse.moment()
    multiverse.rename_branch("b1", "first")
    multiverse.rename_branch("b1", "retry")
    branch = multiverse.find_branch("b1")
    assert (branch.name, branch.former) == ("retry", ("b1", "first"))
    assert tree.names == ["main", "retry", "b2", "b3", "b4"]
    assert multiverse.branch == branch
    assert multiverse.moment() == Moment("retry", moment.position, moment.machines)
    assert multiverse.find_branch("b2").parent.branch == "retry"
    assert multiverse.line() == {"main": Position(100_000), "retry": branch.end}
    assert multiverse.compare(moment, multiverse.moment()) == 0
    multiverse.goto_end("main")
    multiverse.goto(Moment.parse(str(moment)))
    assert (multiverse.branch.name, multiverse.position) == ("retry", moment.position)


def test_a_branch_may_have_a_former_name_again_and_no_other_may(tree):
    multiverse = tree.multiverse
    multiverse.rename_branch("b1", "retry")
    for name, why in {
        "b2": "there is a branch 'b2' already",
        "b1": "'b1' was the name of branch 'retry'",
        "retry": "there is a branch 'retry' already",
        "9": "cannot be called '9'",
        "x" * 33: "cannot be called",
    }.items():
        with pytest.raises(BranchError, match=why):
            multiverse.rename_branch("b3", name)
        with pytest.raises(BranchError, match=why):
            multiverse.fork(name)
    with pytest.raises(BranchError, match="there is a branch 'retry' already"):
        multiverse.rename_branch("retry", "retry")
    with pytest.raises(BranchError, match="no branch 'b9'"):
        multiverse.rename_branch("b9", "x")
    multiverse.rename_branch("retry", "b1")
    assert multiverse.find_branch("retry").former == ("retry",)
    multiverse.rename_branch("main", "trunk")
    assert multiverse.branch.name == "trunk"
    assert tree.names == ["trunk", "b1", "b2", "b3", "b4"]


def test_a_branch_is_not_called_like_a_mark_nor_a_mark_like_a_branch(tree):
    multiverse = tree.multiverse
    multiverse.mark("here")
    multiverse.mark("b5")
    for make in (multiverse.fork, lambda name: multiverse.rename_branch("b1", name)):
        with pytest.raises(BranchError, match="there is a mark 'here' already"):
            make("here")
    multiverse.rename_branch("b1", "retry")
    for name in ("b1", "retry", "b2"):
        with pytest.raises(BranchError, match=name):
            multiverse.mark(name)
    assert multiverse.fork().branch == "b6"


# ---- marks and notes ------------------------------------------------------------------------------------------------


def test_marks_follow_their_branch(tree):
    multiverse = tree.multiverse
    for name, at in (("own", 350_000), ("fork", 300_000), ("inherited", 250_000), ("oldest", 0)):
        multiverse.goto_time(at, branch="b3", ordinal=0)
        multiverse.mark(name)
    multiverse.annotate("oldest", "before all")
    multiverse.rename_branch("b3", "third")
    assert {mark.moment.branch for mark in multiverse.marks.values()} == {"third"}
    multiverse.goto_end("main")
    assert multiverse.delete_branch("third") == Deleted(("third",), ("own",))
    # What was inherited is still there, and so are the marks in it.
    marks = multiverse.marks
    assert {name: mark.moment.branch for name, mark in marks.items()} == {
        "fork": "b1",
        "inherited": "b1",
        "oldest": "b1",
    }
    assert marks["oldest"].note == "before all"
    for mark in marks.values():
        multiverse.goto(mark.moment)
    multiverse.goto_end("main")
    assert multiverse.delete_branch("b1", recursive=True).marks == ("fork", "inherited")
    assert multiverse.marks["oldest"].moment.branch == "main"
    assert multiverse.mark("own") == multiverse.moment()


def test_notes_are_replaced_and_taken_away(tree):
    multiverse = tree.multiverse
    multiverse.mark("here")
    multiverse.annotate("b1", "  the second leader wins\n")
    multiverse.annotate("here", "né")
    assert multiverse.find_branch("b1").note == "the second leader wins"
    assert multiverse.marks["here"].note == "né"
    multiverse.rename_branch("b1", "retry")
    multiverse.annotate("b1", "another")
    assert multiverse.find_branch("retry").note == "another"
    multiverse.annotate("retry", "")
    multiverse.mark("here")
    assert multiverse.find_branch("retry").note == multiverse.marks["here"].note == ""
    multiverse.annotate("main", "x" * NOTE_CHARS_MAX)
    with pytest.raises(BranchError, match=f"at most {NOTE_CHARS_MAX} characters, this one {NOTE_CHARS_MAX + 1}"):
        multiverse.annotate("main", "y" * (NOTE_CHARS_MAX + 1))
    with pytest.raises(BranchError, match="no branch or mark 'nobody'; branches: main, retry, b2, b3, b4; marks: here"):
        multiverse.annotate("nobody", "x")
    multiverse.delete_branch("b3")
    with pytest.raises(BranchError, match="branch 'b3' was deleted"):
        multiverse.annotate("b3", "x")


def test_a_note_is_one_line_that_commands_no_terminal(tree):
    tree.multiverse.annotate("main", "a\udcffb\x1b[31m\r\nc\t\x9bd\u202e\u2028é\x7f")
    assert tree.multiverse.branch.note == "a?b [31m  c  d  é"


def test_nothing_holds_what_a_deleted_branch_held(tree):
    consoles = weakref.ref(tree.multiverse.consoles("b3")[0])
    tree.multiverse.delete_branch("b3")
    gc.collect()
    assert consoles() is None
