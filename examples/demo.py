"""The main job, for real, on a machine without root, server or systemd.

Makes an upstream, starts gitopperd on it, pushes a commit, and shows it arriving. Runs until
Ctrl-C, and leaves nothing behind. Everything lives in one temporary directory.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BIN = Path(sys.executable).parent
SERVICE = "hello"
WAIT_SECONDS = 30

CONFIG = """\
[global]
upstream = "{upstream}"
mount    = "{root}/gitopper"
interval = "2s"

[[services]]
machine = "*"
service = "hello"
publish = "symlink"
command = ["sh", "-c", "echo hello reloads, and reads: $(cat {root}/etc/hello/greeting) >> {root}/reloads"]
dirs    = [{{ local = "{root}/etc/hello", link = "hello/etc" }}]
"""


def git(*words: str, cwd: Path) -> str:
    """Run git as somebody, whatever this machine's configuration says."""
    who = ("-c", "user.name=Demo", "-c", "user.email=demo@localhost", "-c", "commit.gpgsign=false")
    return subprocess.run(
        ["git", *who, *words], cwd=cwd, check=True, capture_output=True, text=True
    ).stdout.strip()


def commit(work: Path, greeting: str) -> str:
    """Commit and push a greeting; return the commit's hash."""
    (work / "hello/etc").mkdir(parents=True, exist_ok=True)
    (work / "hello/etc/greeting").write_text(greeting + "\n")
    git("add", "-A", cwd=work)
    git("commit", "-q", "-m", greeting, cwd=work)
    git("push", "-q", "origin", "HEAD:main", cwd=work)
    return git("rev-parse", "HEAD", cwd=work)


def free_port() -> int:
    """Return a port of the loopback address that nothing uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listed(host: str) -> dict[str, str]:
    """Ask the daemon for the service, as a script would; an empty answer while it starts."""
    command = [BIN / "gitopperctl", "-m", "list", "service", host, SERVICE]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    return json.loads(asked.stdout) if asked.returncode == 0 else {}


def wait_for(host: str, revision: str, daemon: subprocess.Popen[bytes]) -> None:
    """Wait until the service is in line with `revision`."""
    deadline = time.monotonic() + WAIT_SECONDS
    seen: dict[str, str] = {}
    while time.monotonic() < deadline and daemon.poll() is None:
        seen = listed(host)
        if (seen.get("hash"), seen.get("state")) == (revision, "OK"):
            return
        time.sleep(0.1)
    sys.exit(f"{SERVICE} did not arrive at {revision}; last seen: {seen}; the daemon's own words are above")


def show(host: str) -> None:
    """Print what an operator would see."""
    print(f"\n$ gitopperctl list services {host}", flush=True)
    subprocess.run([BIN / "gitopperctl", "list", "services", host], check=True)


def print_new(reloads: Path, seen: int) -> int:
    """Print the reloads that came since the first `seen` bytes; return how many bytes there are now."""
    text = reloads.read_text() if reloads.exists() else ""
    for line in text[seen:].splitlines():
        print(f"  >> {line}", flush=True)
    return len(text)


def demonstrate(root: Path, host: str, port: int, daemon: subprocess.Popen[bytes]) -> int:
    """Push two commits and show them arriving; return how much of the reloads was shown."""
    work, reloads = root / "work", root / "reloads"
    first = git("rev-parse", "HEAD", cwd=work)
    wait_for(host, first, daemon)
    seen = print_new(reloads, 0)
    show(host)
    print("\n$ git commit -m 'Good evening' && git push", flush=True)
    second = commit(work, "Good evening")
    wait_for(host, second, daemon)
    seen = print_new(reloads, seen)
    show(host)
    ctl = os.path.relpath(BIN / "gitopperctl")
    print(f"""
Yours now, in another terminal:

  {ctl} list services {host}
  {ctl} state freeze {host} {SERVICE}
  {ctl} state unfreeze {host} {SERVICE}
  {ctl} state rollback {host} {SERVICE} {first[:12]}
  git -C {root}/gitopper/{SERVICE} log --oneline
  curl -s http://127.0.0.1:{port}/metrics | grep gitopper_service

and push commits of your own from {work}

Ctrl-C ends it, and removes everything.
""", flush=True)  # fmt: skip
    return seen


def main() -> int:
    """Run until Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="gitopper-demo-") as name:
        root, port = Path(name), free_port()
        upstream, host = root / "upstream.git", f"@unix:{root}/gitopperd.sock"
        git("init", "-q", "--bare", "-b", "main", str(upstream), cwd=root)
        git("clone", "-q", str(upstream), "work", cwd=root)
        commit(root / "work", "Good morning")
        (root / "gitopper.toml").write_text(CONFIG.format(upstream=upstream, root=root))
        command = [BIN / "gitopperd", "--no-root", "-c", root / "gitopper.toml", "-a", f"127.0.0.1:{port}"]
        command += ["--state-dir", root / "state", "--socket", root / "gitopperd.sock"]
        print(f"$ gitopperd --no-root -c {root}/gitopper.toml -a 127.0.0.1:{port}", flush=True)
        # A session of its own: Ctrl-C reaches this script, which then stops the daemon itself.
        daemon = subprocess.Popen(command, start_new_session=True)
        try:
            seen = demonstrate(root, host, port, daemon)
            while daemon.poll() is None:
                seen = print_new(root / "reloads", seen)
                time.sleep(0.3)
        except KeyboardInterrupt:
            print("\nending, and removing everything", flush=True)
        finally:
            daemon.terminate()
            daemon.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
