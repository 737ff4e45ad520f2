"""The examples of plugins, built and installed as a third party's are."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import gitopper_plugins
import libgitopper

__all__ = ["EXAMPLES", "install"]

EXAMPLES = Path(__file__).parents[2] / "examples"


def install(example: str, base: Path) -> Path:
    """Make a fresh environment in `base` with the wheel of an example; return its directory.

    What the example depends on shows through from the environment of the tests.
    """
    wheels, source, home = base / "wheels", base / "source", base / "venv"
    subprocess.run(["cp", "-r", str(EXAMPLES / example), str(source)], check=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    offline = ["--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "wheel", *offline, "-w", str(wheels), str(source)], check=True)
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    (wheel,) = wheels.glob("*.whl")
    subprocess.run([*pip, "--python", str(python), "install", *offline[:2], str(wheel)], check=True)
    (site,) = home.glob("lib/python*/site-packages")
    packages = (libgitopper, gitopper_plugins)
    own = [sysconfig.get_path("purelib"), *(str(Path(package.__path__[0]).parent) for package in packages)]
    (site / "shared.pth").write_text("\n".join(dict.fromkeys(own)) + "\n")
    return home
