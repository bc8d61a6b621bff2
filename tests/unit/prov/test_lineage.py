# SPDX-License-Identifier: Apache-2.0
"""Where did report.csv come from: exact answers on small stories, and only what flowed before."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from headwater_prov.document import Document, merge
from headwater_prov.lineage import Lineage, PathError, PathProblem
from headwater_prov.validation import validate
from headwater_prov.vocabulary import Relation, VertexType
from hypothesis import given

from .recorder import Recorder, report_story
from .strategies import workloads


def lineage(recorder: Recorder, *, everything: bool = False) -> Lineage:
    return Lineage(merge(recorder.documents), everything=everything)


def test_where_did_report_csv_come_from() -> None:
    answer = lineage(report_story()).origins("report.csv")
    assert answer.path == "/srv/job/report.csv"
    assert answer.sentence == (
        "report.csv was written by python3 (pid 123), which read report.py and data.csv; "
        "it goes back to run.sh, socket:[108] and report.py."
    )
    assert [str(row) for row in answer.rows] == [
        "report.csv was written by python3 (pid 123) which read report.py and data.csv "
        "(+ 3 files of the system)",
        "curl (pid 99) and python3 (pid 123) were started by sh (pid 90) which read run.sh",
        "data.csv was written by curl (pid 99) which read socket:[108] (+ 2 files of the system)",
    ]
    assert answer.rows[0].command == ("python3", "report.py", "é\\t\"'")


def test_the_table_has_a_line_per_program_and_straight_columns() -> None:
    lines = lineage(report_story()).origins("data.csv").table().splitlines()
    assert lines == [
        "data.csv       was written by  curl (pid 99)  which read  "
        "socket:[108] (+ 2 files of the system)",
        "curl (pid 99)  was started by  sh (pid 90)    which read  run.sh",
    ]


def test_a_long_table_is_cut_and_says_so() -> None:
    answer = lineage(report_story()).origins("report.csv")
    assert answer.table(rows_max=1).splitlines()[-1] == "... and 2 more programs"


def test_what_was_data_csv_used_for() -> None:
    answer = lineage(report_story()).uses("data.csv")
    assert answer.sentence == (
        "data.csv was read by python3 (pid 123) and went into report.csv and other.log."
    )
    assert [str(row) for row in answer.rows] == [
        "data.csv was read by python3 (pid 123) which wrote report.csv and other.log"
    ]


def test_uses_follow_programs_that_were_started() -> None:
    rows = lineage(report_story()).uses("run.sh").rows
    assert [str(row) for row in rows] == [
        "run.sh was read by sh (pid 90)",
        "sh (pid 90) started curl (pid 99) which wrote data.csv",
        "data.csv was read by python3 (pid 123) which wrote report.csv and other.log",
    ]


def test_what_was_read_after_the_last_write_is_no_origin() -> None:
    paths = named_paths(lineage(report_story()).origins("report.csv").document)
    assert "/srv/job/later.txt" not in paths
    assert "/srv/job/later.txt" in named_paths(
        lineage(report_story()).origins("other.log").document
    )


def named_paths(document: Document) -> set[str]:
    return {
        str(vertex.attributes["cf:pathname"])
        for vertex in document.vertices.values()
        if vertex.type is VertexType.PATH
    }


def test_the_part_of_the_document_explains_itself() -> None:
    document = lineage(report_story()).origins("report.csv").document
    assert named_paths(document) == {
        f"/srv/job/{name}" for name in ("report.csv", "report.py", "data.csv", "run.sh")
    }
    endpoints = {name for edge in document.edges for name in (edge.sender, edge.receiver)}
    assert endpoints == set(document.vertices)
    python = [v for v in document.vertices.values() if v.attributes.get("cf:tgid") == 123]
    assert {str(v.attributes["cf:name"]) for v in python} >= {"python3"}
    # The question can be asked of the part alone, with the same answer.
    again = Lineage(document).origins("report.csv")
    assert [row.subjects for row in again.rows] == [
        row.subjects for row in lineage(report_story()).origins("report.csv").rows
    ]


def test_everything_includes_the_files_of_the_system() -> None:
    document = lineage(report_story(), everything=True).origins("report.csv").document
    assert {"/usr/lib/x86_64-linux-gnu/libc.so.6", "/usr/bin/python3.11"} <= named_paths(document)


def test_what_flows_between_threads_is_followed() -> None:
    recorder = Recorder()
    main = recorder.process("worker", 7)
    reader, writer = recorder.thread(main, 8), recorder.thread(main, 9)
    recorder.read(recorder.file("/data/in"), reader)
    recorder.write(writer, recorder.file("/data/out"))
    [row] = lineage(recorder).origins("out").rows
    assert str(row) == "out was written by worker (pid 7) which read in"


def test_a_pipeline_is_followed_through_its_pipes() -> None:
    recorder = Recorder()
    shell = recorder.process("sh", 1)
    grep, sort = recorder.fork(shell, 2), recorder.fork(shell, 3)
    recorder.exec(grep, recorder.file("/usr/bin/grep"), "grep")
    recorder.exec(sort, recorder.file("/usr/bin/sort"), "sort")
    pipe = recorder.file(None, VertexType.PIPE)
    recorder.read(recorder.file("/data/words"), grep)
    recorder.write(grep, pipe)
    recorder.read(pipe, sort)
    recorder.write(sort, recorder.file("/data/sorted"))
    sentence = lineage(recorder).origins("sorted").sentence
    assert sentence == (
        "sorted was written by sort (pid 3), which read the output of grep (pid 2); "
        "it goes back to words."
    )
    rows = lineage(recorder).origins("sorted").rows
    ino = pipe.attributes["cf:ino"]
    assert [str(row) for row in rows] == [
        f"sorted was written by sort (pid 3) which read pipe:[{ino}] (+ 1 file of the system)",
        f"pipe:[{ino}] was written by grep (pid 2) which read words (+ 1 file of the system)",
    ]


def test_what_is_no_longer_declared_is_still_followed() -> None:
    """A stream with a limit on age begins in the middle."""
    recorder = report_story()
    document = merge(recorder.documents)
    files = {name: v for name, v in document.vertices.items() if v.type is VertexType.PATH}
    answer = Lineage(Document(files, document.edges)).origins("report.csv")
    assert answer.sentence.startswith("report.csv was written by process, which read report.py")


def test_a_circle_of_programs_that_become_each_other_ends() -> None:
    """No kernel records that; a file that was edited may say it."""
    recorder = Recorder()
    tasks = [recorder.process("a", number) for number in range(4)]
    memories = [process.memory for process in tasks]
    for before, after in ((0, 1), (1, 2), (2, 1)):
        task = tasks[before].task
        recorder.record((Relation.MEMORY_READ, memories[before], task))
        recorder.record((Relation.EXEC_TASK, task, memories[after]))
    recorder.record((Relation.CLONE, tasks[0].task, tasks[3].task))
    recorder.write(tasks[3], recorder.file("/data/out"))
    assert lineage(recorder).origins("out").rows[0].subjects == ("out",)


def test_a_script_that_is_executed_is_an_origin() -> None:
    recorder = Recorder()
    process = recorder.process("sh", 1)
    recorder.exec(process, recorder.file("/data/make.sh"), "make.sh")
    recorder.write(process, recorder.file("/data/made"))
    [row] = lineage(recorder).origins("made").rows
    assert row.objects == ("make.sh",)


def test_a_file_of_the_system_that_was_written_is_a_result() -> None:
    recorder = Recorder()
    installer, user = recorder.process("pip", 1), recorder.process("python3", 2)
    module = recorder.file("/usr/lib/python3/dist-packages/new.py")
    recorder.write(installer, module)
    recorder.read(module, user)
    recorder.write(user, recorder.file("/data/made"))
    rows = lineage(recorder).origins("made").rows
    assert [row.objects for row in rows] == [("/usr/lib/python3/dist-packages/new.py",), ()]


def test_an_installed_program_is_data_for_who_copies_it() -> None:
    recorder = Recorder()
    program = recorder.file("/usr/bin/tool")
    runner, copier = recorder.process("sh", 1), recorder.process("cp", 2)
    recorder.exec(runner, program, "tool")
    recorder.load(program, runner)
    recorder.write(runner, recorder.file("/data/out"))
    recorder.read(program, copier)
    recorder.write(copier, recorder.file("/data/copy"))
    known = lineage(recorder)
    assert known.origins("copy").rows[0].objects == ("/usr/bin/tool",)
    assert known.origins("out").rows[0].objects == ()


def test_an_interpreter_in_a_home_directory_is_no_origin_but_its_script_is() -> None:
    recorder = Recorder()
    process = recorder.process("sh", 1)
    script, interpreter = recorder.file("/home/me/run.py"), recorder.file("/home/me/py/bin/python3")
    recorder.read(interpreter, process)  # the kernel looks into what it is to execute
    recorder.record((Relation.EXEC, script, process.memory))
    recorder.exec(process, interpreter, "python3")
    recorder.load(interpreter, process)
    recorder.read(script, process)
    recorder.used(Relation.MMAP, recorder.file("/home/me/table"), process, flags="0x1")
    recorder.write(process, recorder.file("/home/me/out"))
    objects = [row.objects for row in lineage(recorder).origins("out").rows]
    assert objects[0] == ("run.py", "table")
    assert "py/bin/python3" not in sum(objects, ())


def test_a_program_that_was_built_here_is_an_origin_of_what_it_writes() -> None:
    recorder = Recorder()
    compiler, process = recorder.process("cc", 1), recorder.process("sh", 2)
    program = recorder.file("/home/me/a.out")
    recorder.write(compiler, program)
    recorder.exec(process, program, "a.out")
    recorder.load(program, process)
    recorder.write(process, recorder.file("/home/me/out"))
    programs = [row.program for row in lineage(recorder).origins("out").rows]
    assert programs == ["a.out (pid 2)", "cc (pid 1)"]


def test_nothing_flows_through_a_device() -> None:
    recorder = Recorder()
    first, second = recorder.process("a", 1), recorder.process("b", 2)
    null = recorder.file("/dev/null", VertexType.CHAR)
    recorder.write(first, null)
    recorder.read(null, second)
    recorder.write(second, recorder.file("/data/out"))
    [row] = lineage(recorder).origins("out").rows
    assert (row.program, row.objects) == ("b (pid 2)", ())


def test_a_file_that_nobody_wrote_has_no_origin() -> None:
    answer = lineage(report_story()).origins("run.sh")
    assert answer.rows == ()
    assert answer.table() == ""
    assert answer.sentence.startswith("No captured program wrote run.sh")


def test_a_file_that_nobody_used() -> None:
    answer = lineage(report_story()).uses("report.csv")
    assert answer.sentence == "No captured program used report.csv."


def test_a_program_that_read_nothing() -> None:
    recorder = Recorder()
    recorder.write(recorder.process("echo", 5), recorder.file("/data/out"))
    sentence = lineage(recorder).origins("out").sentence
    assert sentence == "out was written by echo (pid 5), which read no file before."


def test_the_file_that_had_the_path_last_is_meant() -> None:
    recorder = Recorder()
    old, new = recorder.process("old", 1), recorder.process("new", 2)
    first = recorder.file("/data/report")
    recorder.write(old, first)
    second = recorder.file("/data/report.tmp")
    recorder.write(new, second)
    recorder.generated(Relation.RENAME, new, second)
    recorder.name(second, "/data/report")
    answer = lineage(recorder).origins("/data/report")
    assert [row.program for row in answer.rows] == ["new (pid 2)"]
    assert answer.sentence.endswith("(1 other file had this path before.)")
    assert lineage(recorder).origins("report.tmp").target == answer.target


def test_a_path_that_is_the_end_of_several_is_refused_with_all_of_them() -> None:
    recorder = Recorder()
    process = recorder.process("sh", 1)
    for directory in ("b", "a"):
        recorder.write(process, recorder.file(f"/{directory}/out"))
    with pytest.raises(PathError) as caught:
        lineage(recorder).origins("out")
    assert caught.value.problem is PathProblem.AMBIGUOUS
    assert caught.value.candidates == ["/a/out", "/b/out"]
    assert str(caught.value).endswith(":\n  /a/out\n  /b/out")
    assert lineage(recorder).origins("b/out").path == "/b/out"
    assert lineage(recorder).origins("./b/out").path == "/b/out"


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("reprt.csv", ["/srv/job/report.csv", "/srv/job/report.py"]),
        ("port.csv", ["/srv/job/report.csv"]),
        ("zzzz", []),
        ("", []),
    ],
)
def test_a_path_that_is_not_there_is_refused_with_near_names(path: str, near: list[str]) -> None:
    with pytest.raises(PathError) as caught:
        lineage(report_story()).uses(path)
    assert caught.value.problem is PathProblem.ABSENT
    assert [name for name in caught.value.candidates if "report" in name] == near


def test_names_that_are_no_text_are_found_and_shown_without_controls() -> None:
    recorder = Recorder()
    process = recorder.process("sh\x1b[2J", 1)
    out = recorder.file(None)
    recorder.name(out, "/data/a\x1b[31m\nb")
    recorder.write(process, out)
    answer = lineage(recorder).origins("/data/a\x1b[31m\nb")
    assert answer.path == "/data/a\\x1b[31m\\nb"
    assert lineage(recorder).origins(answer.path) == answer, "what is shown can be asked for"
    assert (answer.sentence + answer.table()).replace("\n", "").isprintable()


def test_names_that_are_not_utf_8_are_found_by_their_bytes() -> None:
    raw = b"/data/100%\xff"
    recorder = Recorder()
    out = recorder.file("/data/100%25%FF")
    path = recorder._vertices[next(iter(recorder._vertices))]
    recorder._vertices[path.name] = type(path)(
        path.name, path.type, {**path.attributes, "hw:escaped": True}
    )
    recorder.write(recorder.process("sh", 1), out)
    answer = lineage(recorder).origins(os.fsdecode(raw))
    assert answer.path == "/data/100%\\xff"


def test_paths_lists_what_can_be_asked_for() -> None:
    paths = lineage(report_story()).paths()
    assert "/srv/job/report.csv" in paths
    assert paths == sorted(paths)


def test_a_document_without_relations_has_no_paths() -> None:
    with pytest.raises(PathError, match="no captured program touched"):
        Lineage(Document()).origins("x")


@given(workloads())
def test_g4_the_walk_meets_only_what_flowed_before(recorder: Recorder) -> None:
    """Compared with walking the edges in the order of capture, which needs no versions."""
    document = merge(recorder.documents)
    found = Lineage(document, everything=True)
    for place in range(3):
        answer = found.origins(f"/data/{place}")
        target = answer.target
        reaching = {f"hw:{target}"}
        times = []
        for edge in reversed(document.edges):
            if edge.receiver in reaching or edge.receiver.rpartition(".")[0] == f"hw:{target}":
                reaching.add(edge.sender)
                times.append(edge.key)
        core = {edge.key for edge in answer.document.edges}
        assert set(times) <= core
        extra = [edge for edge in answer.document.edges if edge.key not in set(times)]
        assert {edge.relation for edge in extra} <= {Relation.NAMED, Relation.ARG}
        assert not [p for p in validate([answer.document], from_start=False) if p.rule == "cycle"]


@given(workloads())
def test_origins_and_uses_are_each_others_inverse(recorder: Recorder) -> None:
    found = lineage(recorder, everything=True)
    sources = {
        (source, place)
        for place in range(3)
        for source in named_paths(found.origins(f"/data/{place}").document)
    }
    for source in range(3):
        for result in named_paths(found.uses(f"/data/{source}").document):
            if result.startswith("/data/") and result != f"/data/{source}":
                assert (f"/data/{source}", int(result[-1])) in sources


def set_up_story() -> Document:
    """A workload writes names; a runtime reads node, writes names, and becomes a workload."""
    recorder = Recorder()
    first, runtime = recorder.process("first", 6), recorder.process("runtime", 7)
    node, names = recorder.file("/srv/node"), recorder.file("/srv/names")
    recorder.read(recorder.file("/srv/before"), first)
    recorder.write(first, names)
    recorder.read(names, first)
    recorder.cut()
    recorder.read(node, runtime)
    recorder.write(runtime, names)
    recorder.cut()
    made = recorder.documents[-1]
    marked = tuple(
        replace(edge, attributes={**edge.attributes, "hw:setup": True})
        for edge in made.edges
        if edge.relation is not Relation.NAMED
    )
    named = tuple(edge for edge in made.edges if edge.relation is Relation.NAMED)
    recorder.read(names, runtime)
    recorder.write(runtime, recorder.file("/srv/result"))
    before, _, after = recorder.documents
    return merge([before, replace(made, edges=(*named, *marked)), after])


def test_what_a_runtime_set_up_is_no_origin_unless_it_is_asked_for() -> None:
    document = set_up_story()
    found = Lineage(document).origins("/srv/result")
    assert named_paths(found.document) == {"/srv/result", "/srv/names", "/srv/before"}
    found = Lineage(document, setup=True).origins("/srv/result")
    assert named_paths(found.document) == {"/srv/result", "/srv/names", "/srv/before", "/srv/node"}


def test_runtime_that_wrote_the_very_file_is_its_origin() -> None:
    answer = Lineage(set_up_story()).origins("/srv/names")
    assert "runtime (pid 7)" in answer.sentence


def test_the_example_of_the_page_is_what_is_printed() -> None:
    page = (Path(__file__).parents[3] / "docs" / "lineage.md").read_text()
    answer = lineage(report_story()).origins("report.csv")
    example = page.partition("<!-- origins of report.csv -->\n```\n")[2].partition("```")[0]
    assert example == f"{answer.sentence}\n\n{answer.table()}\n"
