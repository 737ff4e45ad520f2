"""Running programs: the deadline holds, nothing is left behind, and what was printed is told."""

from __future__ import annotations

import errno
import gc
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from libgitopper import CommandError, Completed, run, spawn
from libgitopper import proc as module

PATIENCE_SECONDS = 20.0


def python(source: str, *arguments: object) -> list[str]:
    return [sys.executable, "-S", "-c", source, *map(str, arguments)]


def alive(pid: int) -> bool:
    """True while the process runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def gone(pid: int) -> bool:
    """True as soon as the process is gone; False when it stays."""
    until = time.monotonic() + PATIENCE_SECONDS
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.01)
    return not alive(pid)


# --- how a command ended -----------------------------------------------------------------


def test_a_command_that_ends_tells_its_code_and_what_it_printed_to_either_stream() -> None:
    done = run(["sh", "-c", "echo out; echo err >&2; exit 3"], timeout_seconds=PATIENCE_SECONDS)
    assert (done.code, done.output) == (3, "out\nerr\n")
    assert done.argv == ("sh", "-c", "echo out; echo err >&2; exit 3")
    assert 0 < done.seconds < PATIENCE_SECONDS


def test_a_command_that_a_signal_ended_has_its_negative_number() -> None:
    done = run(["sh", "-c", "kill -SEGV $$"], timeout_seconds=PATIENCE_SECONDS)
    assert done.code == -signal.SIGSEGV
    with pytest.raises(CommandError, match=r"ended by signal 11"):
        done.check()


def test_check_returns_what_went_well_and_raises_with_the_last_line_of_what_did_not() -> None:
    done = run(["true"], timeout_seconds=PATIENCE_SECONDS)
    assert done.check() is done
    done = run(
        ["sh", "-c", "echo first; echo 'the reason '; echo; exit 4"], timeout_seconds=PATIENCE_SECONDS
    )
    with pytest.raises(CommandError) as failed:
        done.check()
    assert str(failed.value).endswith("exit code 4: the reason")
    assert failed.value.code == 4
    assert failed.value.output == "first\nthe reason \n\n"
    with pytest.raises(CommandError, match=r"^x: exit code 1$"):
        Completed(argv=("x",), code=1, output=" \n", seconds=0.0).check()


def test_arguments_are_no_shell_text() -> None:
    done = run(["echo", "$HOME; `id` 'x'"], timeout_seconds=PATIENCE_SECONDS)
    assert done.output == "$HOME; `id` 'x'\n"


def test_directory_and_environment_are_as_asked(tmp_path: Path) -> None:
    done = run(
        ["/bin/sh", "-c", 'pwd; echo "$ONE"'],
        timeout_seconds=PATIENCE_SECONDS,
        cwd=tmp_path,
        env={"ONE": "1"},
    )
    assert done.output == f"{tmp_path}\n1\n"


# --- what it prints ----------------------------------------------------------------------


def test_of_ten_megabytes_the_last_64_kib_are_told() -> None:
    source = "import sys\nfor n in range(10 * 1024): sys.stdout.write('x' * 1023 + '\\n')\nprint('the end')"
    done = run(python(source), timeout_seconds=PATIENCE_SECONDS)
    assert len(done.output) == module.OUTPUT_LIMIT_BYTES
    assert done.output.endswith("x\nthe end\n")


def peak_kib() -> int:
    """The most memory that this process ever had, since the last reset."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


def test_a_gigabyte_of_output_costs_neither_memory_nor_disk() -> None:
    source = "import os\nfor n in range(1024): os.write(1, b'x' * 2**20)\nos.write(2, b'the end')"
    gc.collect()
    # A write to a file would end the command: it has to go through memory, and not stay there.
    before_bytes = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before_bytes[1]))
    Path("/proc/self/clear_refs").write_text("5")
    before_kib = peak_kib()
    try:
        done = run(python(source), timeout_seconds=PATIENCE_SECONDS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before_bytes)
    assert done.output.endswith("xthe end")
    assert len(done.output) == module.OUTPUT_LIMIT_BYTES
    assert peak_kib() - before_kib < 4 * 1024


def test_a_grandchild_that_never_stops_to_write_does_not_hold_us_up(tmp_path: Path) -> None:
    leave = 'setsid sh -c "echo \\$\\$ >$0; exec yes" &'
    source = f'{leave} while ! [ -s "$0" ]; do sleep 0.01; done; exit 3'
    done = run(["sh", "-c", source, str(tmp_path / "pid")], timeout_seconds=PATIENCE_SECONDS)
    assert done.code == 3
    assert gone(int((tmp_path / "pid").read_text())), "nobody reads what it writes"


def test_a_command_that_closes_its_streams_is_waited_for() -> None:
    done = run(
        ["sh", "-c", "echo said; exec >&- 2>&-; sleep 0.2; exit 5"], timeout_seconds=PATIENCE_SECONDS
    )
    assert (done.code, done.output) == (5, "said\n")
    assert done.seconds >= 0.2


def test_where_the_kernel_can_not_tell_of_an_end_it_is_noticed_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(os, "pidfd_open", refuse)
    done = run(
        ["sh", "-c", "echo said; exec >&- 2>&-; sleep 0.2; exit 5"], timeout_seconds=PATIENCE_SECONDS
    )
    assert (done.code, done.output) == (5, "said\n")
    with pytest.raises(CommandError, match="not done after"):
        run(["sleep", "60"], timeout_seconds=0.1)


def test_what_is_not_utf_8_is_decoded_leniently() -> None:
    done = run(["printf", r"a\377\376b\000\303"], timeout_seconds=PATIENCE_SECONDS)
    assert done.output == "a\ufffd\ufffdb\0\ufffd"


def test_a_character_that_the_limit_cuts_in_two_is_no_error() -> None:
    source = f"print('é' * {module.OUTPUT_LIMIT_BYTES}, end='x')"
    done = run(python(source), timeout_seconds=PATIENCE_SECONDS, env={"PYTHONUTF8": "1"})
    assert done.output.endswith("éx")
    assert done.output.startswith("\ufffd")


def test_stdin_is_empty_and_not_ours() -> None:
    done = run(["sh", "-c", "readlink /proc/self/fd/0; cat; echo done"], timeout_seconds=PATIENCE_SECONDS)
    assert done.output == "/dev/null\ndone\n"


def test_our_own_files_are_not_inherited(tmp_path: Path) -> None:
    with (tmp_path / "secret").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        done = run(["ls", "-l", "/proc/self/fd"], timeout_seconds=PATIENCE_SECONDS)
    assert "secret" not in done.output


# --- the deadline ------------------------------------------------------------------------


def test_a_command_that_is_not_done_in_time_is_ended_and_says_what_it_printed() -> None:
    started = time.monotonic()
    with pytest.raises(CommandError) as late:
        run(["sh", "-c", "echo waiting; sleep 60"], timeout_seconds=0.3)
    assert time.monotonic() - started < PATIENCE_SECONDS
    assert str(late.value) == "sh -c 'echo waiting; sleep 60': not done after 0.3 s, ended"
    assert late.value.output == "waiting\n"
    assert late.value.retryable


def test_what_a_command_says_when_it_is_asked_to_end_is_told() -> None:
    much = "import os, signal, sys\n"
    much += "signal.signal(signal.SIGTERM, lambda *_: sys.exit(os.write(1, b'x' * 2**20 + b'asked')))\n"
    much += "os.write(1, b'ready')\nsignal.pause()"
    with pytest.raises(CommandError) as late:
        run(python(much), timeout_seconds=1.0)
    assert late.value.output.endswith("xasked")


STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.fork()
with open(sys.argv[1], "a") as file:
    file.write(f"{os.getpid()}\\n")
time.sleep(60)
"""


def pids_in(path: Path, count: int) -> list[int]:
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        pids = path.read_text().split("\n")[:-1] if path.exists() else []
        if len(pids) == count:
            return [int(pid) for pid in pids]
        time.sleep(0.01)
    raise AssertionError(f"{count} processes did not start")


def test_the_deadline_ends_children_and_grandchildren_that_ignore_sigterm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GRACE_SECONDS", 0.2)
    with pytest.raises(CommandError):
        run(python(STUBBORN, tmp_path / "pids"), timeout_seconds=2.0)
    assert all(gone(pid) for pid in pids_in(tmp_path / "pids", 3))


def test_a_child_that_outlives_its_parent_is_ended_with_the_command(tmp_path: Path) -> None:
    done = run(
        ["sh", "-c", 'sleep 60 & echo $! >"$0"', str(tmp_path / "pid")], timeout_seconds=PATIENCE_SECONDS
    )
    assert done.code == 0
    assert done.seconds < PATIENCE_SECONDS
    assert gone(int((tmp_path / "pid").read_text()))


def test_a_grandchild_in_a_session_of_its_own_that_keeps_the_stream_open_does_not_hold_us_up(
    tmp_path: Path,
) -> None:
    leave = 'setsid sh -c "echo \\$\\$ >$0; exec sleep 60" &'
    source = f'{leave} while ! [ -s "$0" ]; do sleep 0.01; done; echo done'
    done = run(["sh", "-c", source, str(tmp_path / "pid")], timeout_seconds=PATIENCE_SECONDS)
    pid = int((tmp_path / "pid").read_text())
    try:
        assert done.output == "done\n"
        assert alive(pid), "it left the group on purpose: it is not ours any more"
    finally:
        os.kill(pid, signal.SIGKILL)


def test_a_command_that_ends_itself_on_sigterm_is_not_waited_for_longer() -> None:
    started = time.monotonic()
    with pytest.raises(CommandError):
        run(["sleep", "60"], timeout_seconds=0.1)
    assert time.monotonic() - started < module.GRACE_SECONDS


# --- commands that can't be started ------------------------------------------------------


def test_a_program_that_is_missing_is_told_and_not_worth_a_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(
        CommandError, match=r"^no-such-program -x: can't be started: No such file"
    ) as missing:
        run(["no-such-program", "-x"], timeout_seconds=1.0)
    assert not missing.value.retryable
    assert isinstance(missing.value.__cause__, FileNotFoundError)


def test_a_file_that_is_no_program_is_told(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_bytes(b"\x7fELF no program")
    with pytest.raises(CommandError, match="Permission denied"):
        run([str(script)], timeout_seconds=1.0)
    script.chmod(0o755)
    with pytest.raises(CommandError, match="Exec format error"):
        run([str(script)], timeout_seconds=1.0)


def test_a_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"No such file or directory: .*gone"):
        run(["true"], timeout_seconds=1.0, cwd=tmp_path / "gone")


def test_an_argument_that_no_program_can_get_is_told() -> None:
    with pytest.raises(CommandError, match="null byte") as impossible:
        run(["echo", "a\0b"], timeout_seconds=1.0)
    assert not impossible.value.retryable


# --- spawn -------------------------------------------------------------------------------


def test_spawn_gives_the_streams_and_ends_the_process_with_the_block() -> None:
    with spawn(["cat"], stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"hello\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"hello\n"
        assert os.getpgid(process.pid) == process.pid
        assert os.getsid(process.pid) != os.getsid(0)
    assert process.returncode == -signal.SIGTERM
    assert process.stdin.closed
    assert process.stdout.closed


def test_spawn_ends_the_process_when_the_block_raises() -> None:
    with pytest.raises(KeyboardInterrupt), spawn(["sleep", "60"]) as process:
        raise KeyboardInterrupt
    assert process.returncode is not None


def test_input_that_the_process_never_took_is_no_error() -> None:
    with spawn(["true"], stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.wait(PATIENCE_SECONDS)
        process.stdin.write(b"x")
    assert process.returncode == 0


def test_no_zombie_is_left() -> None:
    with spawn(["true"]) as process:
        pass
    assert not Path(f"/proc/{process.pid}").exists()


def test_memory_of_a_command_is_limited_from_its_first_instruction() -> None:
    take = [sys.executable, "-c", "print(len(bytearray(400 << 20)))"]
    assert run(take, timeout_seconds=20).check().output == f"{400 << 20}\n"
    done = run(take, timeout_seconds=20, memory_bytes=200 << 20)
    assert (done.code, done.argv) == (1, tuple(take))
    assert "MemoryError" in done.output
    done = run(["sh", "-c", "ulimit -d; exit 3"], timeout_seconds=20, memory_bytes=100 << 20)
    assert (done.code, done.output) == (3, f"{100 << 10}\n")
