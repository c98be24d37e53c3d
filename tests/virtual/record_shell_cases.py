"""Records what genuine mksh and toybox do with the scripts: `python -m tests.virtual.record_shell_cases`.

Needs root and ../shared/tools/phone.sh; rewrites shell_cases.json.
"""

import json
from pathlib import Path

from bundler.device.phone import Phone
from tests.phones import genuine_phone
from tests.virtual.shell_scripts import SCRIPTS

CASES = Path(__file__).with_name("shell_cases.json")
LIMIT_S = 20.0
FRAME = 'cd /data/local/tmp && rm -rf case && mkdir case && cd case && eval "$1"'


def behaviour(phone: Phone, script: str) -> dict[str, object]:
    """Exit code, standard output, and whether there was anything on standard error."""
    command = ["sh", "-c", FRAME, "sh", script]
    done = phone.run(command, doing=f"a script ({script})", timeout_s=LIMIT_S, check=False)
    stdout = done.stdout.decode(errors="backslashreplace")
    return {"script": script, "exit": done.exit_code, "stdout": stdout, "complains": bool(done.stderr)}


if __name__ == "__main__":
    with genuine_phone() as phone:
        cases = [behaviour(phone, script) for script in SCRIPTS]
    CASES.write_text(json.dumps(cases, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
