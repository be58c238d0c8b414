"""The panes about the cluster: faults, properties, network, coverage and events, on a made-up story."""

import dataclasses
import time

import pytest
import story
from interface import interface
from story import HOSTILE, US, sdk
from test_panes import rows_of

from cc_tui.pictures import ClusterView
from cc_tui.tui.event_index import AT_ONCE, EventIndex, letter_of
from cc_tui.tui.panes.coverage import CoveragePane
from cc_tui.tui.panes.events import EventPane
from cc_tui.tui.panes.faults import FaultsPane
from cc_tui.tui.panes.network import NetworkPane
from cc_tui.tui.panes.properties import PropertiesPane
from chaoscontrol.coverage import CELLS
from chaoscontrol.events import Event, EventKind
from chaoscontrol.timetravel import EventLog


@pytest.fixture(autouse=True)
def _story(monkeypatch):
    monkeypatch.setattr("cc_tui.looker.Looker.look", story.look)


async def at(shown, place: str, pane: str):
    await shown.run("goto 500us")
    await shown.run(f"goto {place}")
    await shown.run(f"view {pane}")
    return shown.app.focused


def lines(shown) -> str:
    """The session's script, as far as it says what the person did."""
    return shown.session.script()


# ---- faults ---------------------------------------------------------------------------------------------------------


async def test_faults_are_listed_with_their_letters_times_and_whether_they_are_in_effect():
    async with interface(3) as shown:
        pane = await at(shown, "250us", "faults")
        rows = rows_of(pane)
        assert " 0 ○ X  0.000060→0.000140  packet_loss target=0 rate_ppm=50000" in rows
        assert " 1 ● P  0.000180→0.000320  network_partition side_a=0 side_b=1,2" in rows
        assert " 2 ● K  0.000240→0.000300  process_kill target=1 disk=torn" in rows
        assert " 3 · j  0.000330           clock_jump target=2 delta_ns=-1500000000" in rows
        assert any(row.startswith(" 7 · J  0.000490→healed    network_jitter target=1") for row in rows)
        await shown.run("goto 320us")
        assert " 1 ○ P  0.000180→0.000320  network_partition side_a=0 side_b=1,2" in rows_of(pane), "an end is its end"


async def test_faults_to_come_are_dim():
    async with interface(3) as shown:
        pane = await at(shown, "250us", "faults")
        dim = shown.app.theme_variables["dim"]
        for y, row in enumerate(rows_of(pane)):
            if "clock_jump" in row or "packet_loss" in row:
                colours = {segment.style.color.name for segment in pane.render_line(y) if segment.text.strip()}
                assert (colours == {dim}) is ("clock_jump" in row)


async def test_enter_goes_to_where_a_fault_begins():
    async with interface(3) as shown:
        pane = await at(shown, "500us", "faults")
        await shown.press("home", "down", "enter")
        assert shown.vns == 180 * US
        assert "goto main@0.000180000" in lines(shown)
        assert pane.selected == 1
        await shown.press("end", "enter")
        assert shown.vns == 490 * US


async def test_the_selected_fault_is_the_last_that_began_by_the_cursor():
    async with interface(3) as shown:
        pane = await at(shown, "250us", "faults")
        assert pane.selected == 2
        await shown.run("goto 70us")
        assert pane.selected == 0
        await shown.press("down", "down")
        assert pane.selected == 2
        await shown.press("t")
        assert pane.selected == 2, "what is looked at stays until the cursor passes another fault"


async def test_faults_are_drawn_over_time_machine_by_machine():
    async with interface(3) as shown:
        pane = await at(shown, "370us", "faults")
        net, vm0, vm1, vm2 = (row for row in rows_of(pane) if row[:3] in ("net", "vm0", "vm1", "vm2"))
        assert "[=====" in net
        assert "X~~~~" in net
        assert "[>>>" in net
        assert vm0[5:].strip("·│H") == ""
        assert "K~~~" in vm1
        assert "j" in vm2
        assert "!" in vm2, "machine 2 broke a property"
        assert "!" not in vm1


async def test_the_drawing_zooms_around_the_cursor():
    async with interface(3) as shown:
        pane = await at(shown, "250us", "faults")
        assert rows_of(pane)[0].split() == ["0.000000", "◇", "0.000500"]
        await shown.press("plus", "equals_sign")
        assert rows_of(pane)[0].split() == ["0.000187", "◇", "0.000312"]
        net = next(row for row in rows_of(pane) if row.startswith("net"))
        assert set(net[5:].strip()) == {"="}, "it began before, and goes on"
        assert "K~~~~~" in next(row for row in rows_of(pane) if row.startswith("vm1"))
        await shown.press("minus", "w")
        assert rows_of(pane)[0].split() == ["0.000000", "◇", "0.000500"]
        for _ in range(40):
            pane.action_zoom(1)
        begin, _, end = rows_of(pane)[0].split()
        assert 0 < round((float(end) - float(begin)) * 1e6) <= 2, "no further than a microsecond"
        await shown.press(*["minus"] * 9)
        assert rows_of(pane)[0].split() == ["0.000000", "◇", "0.000500"]


async def test_the_timeline_bar_shows_faults_and_failures():
    async with interface(3) as shown:
        await at(shown, "370us", "faults")
        bar = shown.rows[-3]
        for piece in ("X~~~", "[===", "K~~~", "j", "!", "[>>", "H"):
            assert piece in bar
        assert bar.index("X") < bar.index("[=") < bar.index("K") < bar.index("j") < bar.index("◇") < bar.index("[>")


async def test_h_ends_every_fault():
    async with interface(3) as shown:
        asked = []
        shown.main.run_line = asked.append
        await shown.press("5", "h")
        assert asked == ["heal"]


async def test_a_filter_shows_what_holds_a_text_until_escape():
    async with interface(3) as shown:
        pane = await at(shown, "370us", "faults")
        await shown.press("slash")
        await shown.write("target=2")
        await shown.press("enter")
        shown_rows = [row for row in rows_of(pane) if "target" in row]
        assert pane.entry_count() == 2
        assert any("/target=2  2 match" in row for row in shown_rows)
        await shown.press("home", "enter")
        assert shown.vns == 330 * US
        await shown.press("escape")
        assert pane.entry_count() == len(story.FAULTS)
        assert shown.main.focused is pane


async def test_without_faults_the_pane_says_so(monkeypatch):
    monkeypatch.setattr("cc_tui.looker.Looker.look", lambda looker, multiverse, *, closely: ClusterView())
    async with interface(3) as shown:
        absent = {"faults": "no faults on this line", "properties": "no properties yet", "network": "no network",
                  "coverage": "none yet", "events": "nothing has happened"}  # fmt: skip
        for name, text in absent.items():
            await shown.run(f"view {name}")
            assert text in shown.text
            await shown.press("enter", "up", "down", "home", "end", "pageup", "pagedown")


# ---- properties -----------------------------------------------------------------------------------------------------


async def test_failed_properties_come_first_then_unreached_then_held():
    async with interface(3) as shown:
        pane = await at(shown, "370us", "properties")
        words = [row.split()[:2] for row in rows_of(pane)[1:8]]
        assert words == [["!", "FAILED"], *[["○", "unreached"]] * 2, *[["✓", "held"]] * 4]
        text = "\n".join(rows_of(pane))
        assert "! 1 failed  ○ 2 unreached  ✓ 4 held  1 to fail" in text
        assert "at 0.000350" in text
        assert "fails at 0.000450" in text


async def test_properties_are_those_of_the_cursor():
    async with interface(3) as shown:
        pane = await at(shown, "340us", "properties")
        text = "\n".join(rows_of(pane))
        assert "FAILED" not in text
        assert "2 to fail" in text
        assert "fails at 0.000350" in text
        await shown.run("goto 360us")
        assert "FAILED" in rows_of(pane)[1]


async def test_enter_goes_to_the_exact_instruction_of_the_counterexample():
    async with interface(3) as shown:
        await at(shown, "370us", "properties")
        await shown.press("home", "enter")
        assert shown.view.focus == 2
        assert shown.view.instrets[2] == story.BROKEN.instret
        assert f"\nvm 2\ngoto {story.BROKEN.instret}i\n" in lines(shown)


async def test_enter_on_one_without_a_machine_goes_to_its_time():
    async with interface(3) as shown:
        await at(shown, "370us", "properties")
        await shown.press("home", "down", "enter")
        assert shown.vns == 450 * US
        assert "goto main@0.000450000" in lines(shown)


async def test_details_of_the_selected_property_are_below():
    async with interface(3) as shown:
        pane = await at(shown, "370us", "properties")
        await shown.press("home")
        text = "\n".join(rows_of(pane)[-6:])
        assert "always_or_unreachable: 3,700 passed, 2 failed" in text
        assert "broken first at 0.000350 by vm2, instruction 2,101" in text
        assert '{"term": 3, "leaders": [0, 2]}' in text
        await shown.press("end")
        assert "first held at 0.000070 by vm1" in "\n".join(rows_of(pane)[-6:])


async def test_properties_are_filtered():
    async with interface(3) as shown:
        pane = await at(shown, "370us", "properties")
        await shown.run("find leader")
        assert pane.entry_count() == 3
        await shown.run("find Leader")
        assert pane.entry_count() == 0, "capitals count"
        assert "no entry matches" in "\n".join(rows_of(pane))
        await shown.run("find")
        assert pane.entry_count() == 7


# ---- network --------------------------------------------------------------------------------------------------------


async def test_links_that_are_not_normal_stand_out_without_colour():
    async with interface(3) as shown:
        pane = await at(shown, "250us", "network")
        rows = rows_of(pane)
        assert rows[0] == "6 directions, 4 down, 0 impaired, 3 in flight"
        marks = {tuple(row[2:].split()[0:3:2]): row[0] for row in rows if "→ vm" in row[2:11]}
        assert marks["vm0", "vm1"] == "!"
        assert marks["vm1", "vm2"] == " "
        assert sum(1 for row in rows if row.startswith("! ") and "DOWN" in row) == 4
        await shown.run("goto 100us")
        assert rows_of(pane)[0] == "6 directions, 0 down, 4 impaired, 3 in flight"
        assert sum(1 for row in rows_of(pane) if row.startswith("~ ") and "5%" in row) == 4


async def test_the_packets_in_flight_on_the_selected_link_are_named_as_commands_name_them():
    async with interface(3) as shown:
        pane = await at(shown, "250us", "network")
        assert not [row for row in rows_of(pane) if "#" in row], "none from vm0 to vm1"
        await shown.press("end")
        flights = [row.split(" [")[0] for row in rows_of(pane) if "#" in row]
        assert flights == [
            "2#57>1 in 41.2us TCP 10.0.0.3:7000 > 10.0.0.2:41209",
            "2#57>1.1 in 1.5ms TCP 10.0.0.3:7000 > 10.0.0.2:41209",
        ]


async def test_links_are_a_matrix_too_where_there_is_room():
    async with interface(3) as shown:
        pane = await at(shown, "250us", "network")
        matrix = [row.split() for row in rows_of(pane)[1:5]]
        assert matrix == [["→", "vm0", "vm1", "vm2"], ["vm0", "DOWN", "DOWN"], ["vm1", "DOWN", "up"],
                          ["vm2", "DOWN", "up"]]  # fmt: skip


# ---- coverage -------------------------------------------------------------------------------------------------------


def tiles(pane) -> list[str]:
    """The rows of the map itself."""
    return [pane.render_line(y).text for y in range(2, pane.content_size.height - 1)]


async def test_coverage_is_a_heatmap_of_all_machines_or_one():
    async with interface(3) as shown:
        pane = await at(shown, "300us", "coverage")
        rows = rows_of(pane)
        assert rows[0] == "all  600 edges"
        assert rows[1] == "vm0 300  vm1 300  vm2 none"
        assert set("".join(tiles(pane))) <= set(" .:-=+*#@")
        merged = tiles(pane)
        await shown.press("right")
        assert rows_of(pane)[0] == "vm0  300 edges"
        assert tiles(pane) != merged
        await shown.press("right", "right")
        assert "none: vm2 has no coverage map" in rows_of(pane)[2]
        await shown.press("right")
        assert tiles(pane) == merged


async def test_new_edges_are_digits_since_the_cursor_rested_before():
    async with interface(3) as shown:
        pane = await at(shown, "300us", "coverage")
        await shown.press("t")
        assert rows_of(pane)[0] == "all  620 edges  20 new since 0.000300"
        digits = sum(character in "12345678" for character in "".join(tiles(pane)))
        assert 10 < digits <= 20, "new edges, some of them in one tile"
        await shown.press("t")
        assert "20 new since 0.000310" in rows_of(pane)[0]


async def test_new_edges_since_a_mark():
    async with interface(3) as shown:
        pane = await at(shown, "300us", "coverage")
        await shown.press("M", "t", "t", "t")
        assert "60 new since M at 0.000300" in rows_of(pane)[0]
        await shown.press("M")
        assert "20 new since 0.000320" in rows_of(pane)[0]


async def test_pictures_without_coverage_leave_what_was_known(monkeypatch):
    async with interface(3) as shown:
        pane = await at(shown, "300us", "coverage")
        known = tiles(pane)
        view = dataclasses.replace(shown.view, cluster=dataclasses.replace(shown.view.cluster, coverage=()))
        pane.show(dataclasses.replace(view, position=view.position._replace(vns=310 * US), moment=None))
        assert "as of 0.000300" in rows_of(pane)[0]
        assert tiles(pane) == known


async def test_no_guest_with_a_map(monkeypatch):
    monkeypatch.setattr(story, "coverage", lambda now: (None, None, None))
    async with interface(3) as shown:
        pane = await at(shown, "300us", "coverage")
        assert "none: no guest has a coverage map" in rows_of(pane)[2]
        assert rows_of(pane)[1] == "vm0 none  vm1 none  vm2 none"


# ---- events ---------------------------------------------------------------------------------------------------------


async def test_events_of_the_cluster_stand_among_the_others():
    async with interface(3) as shown:
        await shown.run("goto 100us")
        await shown.run(r'type 1 "hi\r"')
        pane = await at(shown, "400us", "events")
        await shown.press("home")
        text = [" ".join(row.split()) for row in rows_of(pane)]
        wanted = [
            '0.000045 e vm0 became_leader {"term": 1}',
            "0.000060 X begins: packet_loss target=0 rate_ppm=50000",
            r'0.000100 i vm1 typed "hi\r"',
            "0.000140 X ends: packet_loss target=0 rate_ppm=50000",
            "0.000330 j clock_jump target=2 delta_ns=-1500000000",
            "0.000332 ? not done: machine 2: no guest agent answers",
        ]
        assert [row for row in text if row in wanted] == wanted
        assert not [row for row in text if "line 3" in row], "console lines are the consoles' business"
        broken = [row for row in text if story.NEVER_TWO in row]
        assert [row[:10] for row in broken] == ["0.000350 !", "0.000390 !"], "each once"


async def test_enter_on_a_guests_event_goes_to_its_instruction():
    async with interface(3) as shown:
        pane = await at(shown, "400us", "events")
        await shown.run("find became")
        assert pane.entry_count() == 2
        await shown.press("end", "enter")
        assert shown.view.focus == 2
        assert shown.view.instrets[2] == 265 * US // 170


async def test_what_the_guests_will_send_is_not_known_to_the_past():
    async with interface(3) as shown:
        pane = await at(shown, "200us", "events")
        text = "\n".join(rows_of(pane))
        assert text.count("became_leader") == 1
        assert "HEAL".lower() in text, "faults to come are"


async def test_tens_of_thousands_of_events_are_indexed_not_drawn():
    log = EventLog()
    log.append([sdk(at, at % 3, f"event {at}", {}) for at in range(30_000)])
    async with interface(3) as shown:
        pane = await at(shown, "300us", "events")
        cluster = dataclasses.replace(shown.view.cluster, events=log, events_total=log.total, failures=(), faults=())
        view = dataclasses.replace(shown.view, cluster=cluster)
        pane.show(view)
        assert pane.entry_count() == AT_ONCE, "the rest is left for when nothing else is to be done"
        pane.show = lambda view: None
        await shown.until(lambda: pane.entry_count() == 30_000)
        del pane.show
        begun = time.perf_counter()
        assert "event 29999" in "\n".join(rows_of(pane))
        for _ in range(50):
            pane.show(dataclasses.replace(view, cluster=dataclasses.replace(cluster, events_total=log.total - 1)))
            pane.show(view)
        pane.action_first()
        assert "event 0" in rows_of(pane)[0]
        pane.action_page_down()
        assert time.perf_counter() - begun < 5


def test_the_index_finds_what_lies_before_a_moment():
    log = EventLog()
    log.append([sdk(1, 0, "a", {}), Event(2, 0, 2, EventKind.CONSOLE, "x"), sdk(3, 1, "b", {})])
    index = EventIndex(log, lambda event: True)
    assert [index.update(total) for total in (0, 1, 2, 3, 1, 0)] == [0, 1, 1, 2, 1, 0]
    assert index.times == [1, 3]


def test_letters_of_events():
    assert letter_of(sdk(1, 0, "a", {})) == "e"
    assert letter_of(sdk(1, 0, "a", {}, failed=True)) == "!"
    assert letter_of(Event(1, 0, 1, EventKind.FAULT, "not done: machine 0: no disk")) == "?"
    assert letter_of(Event(1, 0, 1, EventKind.FAULT, "begins: disk_full target=0")) == ""
    assert letter_of(Event(1, 0, 1, EventKind.CONSOLE, "x")) == ""
    assert letter_of(Event(1, 0, 1, EventKind.DISK, b"x")) == ""


# ---- all of them ----------------------------------------------------------------------------------------------------

PANES = {"faults": FaultsPane, "properties": PropertiesPane, "network": NetworkPane, "coverage": CoveragePane,
         "events": EventPane}  # fmt: skip


@pytest.mark.parametrize("size", [(80, 24), (120, 30), (160, 50), (40, 10), (20, 5)])
async def test_they_fit_every_size(size):
    async with interface(3, size) as shown:
        await shown.run("goto 500us")
        for name, kind in PANES.items():
            await at(shown, "370us", name)
            assert len(shown.rows) == size[1]
            assert all(len(row) <= size[0] for row in shown.rows)
            assert isinstance(shown.app.focused, kind)
            if size[0] >= 80:
                assert name in shown.rows[0], "the tab in view is in sight"


@pytest.mark.parametrize("name", ["properties", "events"])
async def test_a_guests_text_is_shown_not_obeyed(name):
    async with interface(3) as shown:
        pane = await at(shown, "400us", name)
        await shown.press("end")
        await shown.run("find name")
        text = "\n".join(rows_of(pane))
        assert "red [bold]name[/]" in text
        assert "owned" not in text
        assert all(row.isprintable() for row in rows_of(pane))
        assert all(len(row) <= pane.content_size.width for row in rows_of(pane))


async def test_a_script_that_filters_cannot_write_to_the_terminal_either():
    async with interface(3) as shown:
        pane = await at(shown, "400us", "events")
        pane.filter(HOSTILE)
        assert all(row.isprintable() for row in rows_of(pane))


async def test_the_mouse_selects_and_goes():
    async with interface(3) as shown:
        pane = await at(shown, "500us", "faults")
        y = next(y for y, row in enumerate(rows_of(pane)) if "process_kill" in row)
        await shown.pilot.click(pane, offset=(10, y))
        await shown.settle()
        assert pane.selected == 2
        assert shown.vns == 500 * US
        await shown.pilot.click(pane, offset=(10, y), times=2)
        await shown.settle()
        assert shown.vns == 240 * US


async def test_without_colour_the_panes_say_the_same(monkeypatch):
    async with interface(3) as shown:
        await at(shown, "370us", "properties")
        coloured = shown.rows
    monkeypatch.setenv("NO_COLOR", "1")
    async with interface(3) as shown:
        await at(shown, "370us", "properties")
        assert shown.rows == coloured


def test_the_maps_of_the_story_are_maps():
    assert {len(found) for found in story.coverage(300 * US) if found is not None} == {CELLS}
