"""The process of one virtual phone.

python -m bundler.virtual.daemon STATE_FOLDER SOC ADDRESS PORT [--open] [FAULT...]
"""

import asyncio
import json
import logging
import os
import signal
import sys
from pathlib import Path

from bundler.files import writing
from bundler.soc import Soc, known_socs
from bundler.virtual import adbd, landlock, shell
from bundler.virtual.disk import make_small
from bundler.virtual.faults import Faults, parse_faults
from bundler.virtual.life import Life
from bundler.virtual.machine import Machine
from bundler.virtual.phones import RECORD
from bundler.virtual.processes import adopt_orphans, end_descendants
from bundler.virtual.storage import WRITABLE, Storage

STORAGE = "storage"
LIFE = "life"


def machine(soc: Soc, storage: Storage, serial: str, faults: Faults, life: Life) -> Machine:
    """Returns a phone with this chip, as shown by its properties."""
    properties = {
        "ro.boot.qemu": "0",
        "ro.board.platform": soc.platform,
        "ro.build.version.release": "14",
        "ro.build.version.sdk": "34",
        "ro.hardware": "qcom",
        "ro.product.brand": "mbqa",
        "ro.product.cpu.abi": "arm64-v8a",
        "ro.product.cpu.abilist": "arm64-v8a",
        "ro.product.device": soc.platform,
        "ro.product.manufacturer": "mbqa-bundle",
        "ro.product.model": f"Virtual {soc.market}".replace(" ", "_"),
        "ro.product.name": soc.platform,
        "ro.serialno": serial,
        "ro.soc.manufacturer": "QTI",
        "ro.soc.model": soc.name,
        "sys.boot_completed": "1",
    }
    return Machine(storage, properties, faults, life)


async def _live(state: Path, soc: Soc, address: str, port: int, faults: Faults, *, open_to_all: bool) -> None:
    storage = Storage(state / STORAGE)
    phone = machine(soc, storage, f"virtual-{soc.name}", faults, Life.begin(state / LIFE))
    storage.create()
    shell.install(phone)
    if (room := faults.number("disk")) is not None:
        make_small(storage.host(WRITABLE), room)
    adopt_orphans()
    landlock.scope_signals()

    def ready(port: int) -> None:
        record = {"pid": os.getpid(), "port": port, "soc": soc.name, "address": address}
        with writing(state / RECORD) as draft:
            draft.write_text(json.dumps(record), encoding="utf-8")

    serving = asyncio.create_task(adbd.serve(phone, port, ready=ready, address=address, open_to_all=open_to_all))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, serving.cancel)
    try:
        await serving
    except asyncio.CancelledError:
        pass
    finally:
        end_descendants()  # detached jobs end with the phone too
        storage.close()
        (state / RECORD).unlink(missing_ok=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    _, folder, chip, where, number, *specs = sys.argv
    open_to_all = "--open" in specs
    faults = parse_faults([spec for spec in specs if spec != "--open"])
    asyncio.run(_live(Path(folder), known_socs()[chip], where, int(number), faults, open_to_all=open_to_all))
