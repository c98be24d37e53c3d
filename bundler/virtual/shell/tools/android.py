"""What Android adds to toybox's tools, as far as scripts ask it: getenforce, dumpsys battery."""

from collections.abc import Sequence

from bundler.virtual.shell.tools.base import Context, Tool, parse

BATTERY = """\
Current Battery Service state:
  AC powered: false
  USB powered: true
  Wireless powered: false
  Dock powered: false
  Max charging current: 500000
  Max charging voltage: 5000000
  Charge counter: 3870000
  status: 2
  health: 2
  present: true
  level: 86
  scale: 100
  voltage: 4213
  temperature: 301
  technology: Li-ion"""


def getenforce(argv: Sequence[str], context: Context) -> int:
    """`getenforce`: the mode of SELinux."""
    parse(argv, maximum=0)
    context.out.line("Enforcing")
    return 0


def dumpsys(argv: Sequence[str], context: Context) -> int:
    """`dumpsys battery`; it knows no other service."""
    service = (list(argv[1:]) or [""])[0]
    if service == "battery":
        context.out.line(BATTERY)
        return 0
    context.complain(f"Can't find service: {service}")
    return 0


TOOLS: dict[str, Tool] = {"dumpsys": dumpsys, "getenforce": getenforce}
