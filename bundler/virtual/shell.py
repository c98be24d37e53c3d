"""Runs commands for adb: the host's own sh and tools, in the phone's storage and confined to it.

The phone's PATH is its /system/bin: links to the host's versions of Android's tools, small scripts for Android-only
programs, and the stand-ins for the engines. Scripts that replace tools implement the tools' faults.
"""

import os
import re
import shlex
import shutil
import site
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from bundler.resources import PACKAGE
from bundler.virtual import landlock
from bundler.virtual.faults import ANDROID, TOOLS
from bundler.virtual.machine import Machine
from bundler.virtual.storage import WRITABLE

BIN = "system/bin"
PYTHON = "system/python"
"""Holds a link to this package, from which the stand-ins import it."""

STAND_INS = {"snpe-net-run": "bundler.virtual.net_run", "qnn-net-run": "bundler.virtual.qnn_net_run"}
"""The engines' programs, and the modules that replace them."""
SHELL = "/bin/sh"

SYSTEM = "/usr /bin /sbin /lib /lib32 /lib64 /opt/python /proc /sys /dev/zero /dev/urandom /dev/random".split()
SETTINGS = "ld.so.cache ld.so.conf ld.so.conf.d passwd group nsswitch.conf localtime alternatives mime.types".split()
DEVICES = "/dev/null /dev/tty /dev/pts /dev/ptmx /dev/full".split()

BATTERY = """\
Current Battery Service state:
  AC powered: false
  USB powered: true
  status: 2
  health: 2
  present: true
  level: 86
  scale: 100
  voltage: 4213
  temperature: 301
  technology: Li-ion"""


def install(machine: Machine) -> None:
    """Installs the phone's programs into its /system/bin, after removing its old content."""
    folder = machine.storage.root / BIN
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in sorted(TOOLS - ANDROID):
        if tool := _host_tool(name):
            (folder / name).symlink_to(tool)
    for name, script in _scripts(machine).items():
        place = folder / name
        place.unlink(missing_ok=True)
        place.write_text(f"#!{SHELL}\n{script}\n", encoding="utf-8")
        place.chmod(0o755)
    for fault in machine.faults.of("lacks"):
        if "-" not in fault.values[0]:
            (folder / fault.values[0]).unlink(missing_ok=True)
    link = machine.storage.root / PYTHON / PACKAGE.name
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(PACKAGE)


def _host_tool(name: str) -> str | None:
    return shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin")


def _scripts(machine: Machine) -> dict[str, str]:
    scripts = {
        "getprop": _getprop(machine.properties),
        "getenforce": "echo Enforcing",
        "dumpsys": f'case $1 in\nbattery) cat <<"END"\n{BATTERY}\nEND\n;;\n'
        '*) echo "Can\'t find service: $1" >&2 ;;\nesac',
        **{name: _stand_in(module, machine) for name, module in STAND_INS.items()},
    }
    for fault in machine.faults.of("clock"):
        scripts["date"] = f'exec {_host_tool("date")} -d "{fault.values[0]} seconds" "$@"'
    lacking: dict[str, set[str]] = {}
    for fault in machine.faults.of("lacks"):
        tool, dash, option = fault.values[0].partition("-")
        if dash and (place := _host_tool(tool)):
            lacking.setdefault(tool, set()).add(option)
            scripts[tool] = _without(tool, place, "".join(sorted(lacking[tool])))
    return scripts


def _getprop(properties: Mapping[str, str]) -> str:
    named = "\n".join(f"{name}) echo {shlex.quote(value)} ;;" for name, value in properties.items())
    listed = shlex.quote("\n".join(f"[{name}]: [{value}]" for name, value in sorted(properties.items())))
    return f'[ $# -gt 0 ] || {{ echo {listed}; exit; }}\ncase $1 in\n{named}\n*) echo "$2" ;;\nesac'


def _stand_in(module: str, machine: Machine) -> str:
    """Returns the script of a stand-in. It loads no SDK libraries of a bundle, which are for another processor."""
    settings = {
        "PYTHONPATH": f"{machine.storage.place}/{PYTHON}",
        "PYTHONUSERBASE": site.getuserbase(),
        "OPENBLAS_NUM_THREADS": "1",  # numpy's, whose start takes longer than the work here
        "MBQA_FAULTS": " ".join(map(str, machine.faults.faults)),
        "MBQA_LIFE": f"{machine.life.folder}:{machine.life.daemon}" if machine.life else "",
    }
    assigned = " ".join(f"{name}={shlex.quote(value)}" for name, value in settings.items())
    return f'unset LD_LIBRARY_PATH\n{assigned} exec {shlex.quote(sys.executable)} -P -m {module} "$@"'


def _without(tool: str, place: str, options: str) -> str:
    """Returns a script for a tool that refuses these one-letter options, and long options that begin with them."""
    refuse = f"{tool}: Unknown option '%s' (see \"{tool} --help\")\\n"
    return f"""first=yes option=
for word; do
  case $word in
  --) break ;;
  --[{options}]*) option=${{word#--}} ;;
  -[!-]*[{options}]* | -[{options}]*) option=$(echo "$word" | tr -cd {shlex.quote(options)}) ;;
  *[{options}]*) [ "$first$(basename "$0")" = yestar ] && option=$(echo "$word" | tr -cd {shlex.quote(options)}) ;;
  esac
  first=
  [ -z "$option" ] || {{ printf {shlex.quote(refuse)} "$option" >&2; exit 1; }}
done
exec {place} "$@"
"""


def run(command: str | None, machine: Machine, environment: Mapping[str, str]) -> NoReturn:
    """Replaces the process by the confined shell of an adb session; `command` None reads a script from stdin."""
    storage = machine.storage
    confine(machine)
    os.chdir(storage.root)
    variables = {
        **environment,
        "HOME": str(storage.place),
        "PATH": f"{storage.place}/{BIN}",
        "PS1": f"{environment.get('HOSTNAME', 'phone')}:$PWD $ ",
        "PWD": str(storage.place),
        "TMPDIR": f"{storage.place}{WRITABLE}",
    }
    argv = ["sh"] if command is None else ["sh", "-c", with_place(command, storage.place)]
    os.execve(SHELL, argv, variables)


def with_place(command: str, place: Path) -> str:
    """Returns the command line with the storage's place before each path that begins with /data/local/tmp."""
    return re.sub(rf"(?<![\w./]){WRITABLE}(?![\w.-])", lambda match: f"{place}{match[0]}", command)


def confine(machine: Machine) -> None:
    """Confines this process and its children to the phone's storage, the system's programs and this Python."""
    writable = [machine.storage.root / WRITABLE[1:], *map(Path, DEVICES)]
    if machine.life:
        writable.append(machine.life.folder)
    settings = [Path("/etc") / name for name in SETTINGS]
    readable = [machine.storage.root, machine.storage.place, *map(Path, SYSTEM), *settings, *_python()]
    landlock.confine(readable=readable, writable=writable)


def _python() -> list[Path]:
    """Returns the folders of the stand-ins' Python and of the packages that it imports."""
    packages = [Path(entry) for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
    return [Path(sys.base_prefix), Path(sys.prefix), *packages, PACKAGE]
