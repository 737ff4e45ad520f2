"""A process that has gitopperd loaded, and becomes one as often as it is asked to, quickly.

    python -m tests.proof.zygote DESCRIPTOR

Each order that comes over the socket names a command line; a child carries it out, from the first line of
``main`` to what the interpreter does at its end (see `_end`), with its calls announced (see `seccomp`).
What the child leaves running becomes a child of this process, is told of, and is ended.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self
from unittest import mock

from attrs import define

from gitopper_plugins import mountapi
from libgitopper import load_plugins
from tests.proof import seccomp

__all__ = ["Ended", "Zygote"]

_SUBREAPER, _DIE_WITH_PARENT = 36, 1
_CHILDREN = Path("/proc/thread-self/children")
GRACE_SECONDS = 3.0
_STEP_SECONDS = 0.002


@define(kw_only=True)
class Ended:
    """How a child ended."""

    code: int
    """Exit code; ``-N`` when signal N ended it."""
    left: list[str]
    """The command lines of the processes that it left behind."""


class Zygote:
    """This side of the socket."""

    def __init__(self, environ: dict[str, str], *, apart: bool = False) -> None:
        """`apart`: in a mount namespace of its own, so that what it mounts reaches nobody; needs root."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket = ours
        prefix = ["unshare", "--mount", "--propagation", "private"] if apart else []
        argv = [*prefix, sys.executable, "-m", "tests.proof.zygote", str(theirs.fileno())]
        with theirs:
            self._process = subprocess.Popen(argv, pass_fds=[theirs.fileno()], env=environ)

    @property
    def view(self) -> str:
        """The host's root directory, as it sees it."""
        return f"/proc/{self._process.pid}/root"

    @property
    def mounts(self) -> list[str]:
        """Where anything is mounted, as it sees it."""
        table = Path(f"/proc/{self._process.pid}/mountinfo").read_text().splitlines()
        return [line.split(" ")[4] for line in table]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()  # it ends with that
        self._process.wait(20)

    def start(self, argv: Sequence[str], output: Path, calls: Sequence[str]) -> tuple[int, int]:
        """Begin to run ``gitopperd argv``; return its process id, and where `calls` are announced."""
        self.socket.send(json.dumps({"argv": [*argv], "output": str(output), "calls": [*calls]}).encode())
        told, descriptors, _, _ = socket.recv_fds(self.socket, 100, 1)
        return int(told), descriptors[0]

    def mount(self, source: Path, target: Path) -> None:
        """Show `source` at `target`, as the daemon does."""
        self.socket.send(json.dumps({"source": str(source), "target": str(target)}).encode())
        assert self.socket.recv(100) == b"mounted"

    def ended(self) -> Ended:
        """Read how it ended, once the socket is readable."""
        return Ended(**json.loads(self.socket.recv(65536)))


def _serve(orders: socket.socket) -> None:
    from ctypes import CDLL

    CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    # Who answers its calls may be killed; then a daemon would wait for ever, and this for the daemon.
    CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
    while order := orders.recv(65536):
        wanted = json.loads(order)
        if "source" in wanted:
            _mount(**wanted)
            orders.send(b"mounted")
            continue
        child = os.fork()
        if child == 0:
            CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
            _become(orders, **wanted)
        _, status = os.waitpid(child, 0)
        orders.send(json.dumps(_told(os.waitstatus_to_exitcode(status))).encode())


def _mount(source: str, target: str) -> None:
    tree = mountapi.clone(source)
    mountapi.attach(tree, target)
    os.close(tree)


def _become(orders: socket.socket, argv: Sequence[str], output: str, calls: Sequence[str]) -> NoReturn:
    from gitopperd.main import main

    log = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    os.setsid()
    listener = seccomp.install(calls)
    socket.send_fds(orders, [str(os.getpid()).encode()], [listener])
    os.close(listener)
    orders.close()
    code: object = 1
    try:
        main(list(argv))
    except SystemExit as exc:
        code = exc.code
    except BaseException:  # noqa: BLE001 - it is shown, as the interpreter would
        traceback.print_exc()
    _end(code if isinstance(code, int) else 1)


def _end(code: int) -> NoReturn:
    """Do what the interpreter does at its end, as far as anybody could notice.

    It waits for threads, calls who has asked for it, and finalizes what there is. To take down each module,
    too, takes longer than all that the daemon has to do.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    gc.collect()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _told(code: int) -> dict[str, Any]:
    """Tell how the child ended, and end what it left."""
    left: list[str] = []
    until = time.monotonic() + GRACE_SECONDS
    while children := [int(pid) for pid in _CHILDREN.read_text().split()]:
        late = time.monotonic() > until
        for pid in children:
            if late:
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
                left.append(command.decode(errors="replace"))
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0 if late else os.WNOHANG)
        time.sleep(_STEP_SECONDS)
    return {"code": code, "left": left}


if __name__ == "__main__":
    import gitopperd.main

    # A daemon finds its plugins loaded: that opens nothing of the host's, and takes long.
    _plugins = mock.patch.object(gitopperd.main, "load_plugins", return_value=load_plugins())
    # What is here now is no garbage of any daemon: whoever looks for some, need not touch it.
    gc.collect()
    gc.freeze()
    with _plugins, socket.socket(fileno=int(sys.argv[1])) as _orders:
        _serve(_orders)
