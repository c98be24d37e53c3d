"""What a phone is: one round trip with device_scripts/probe.sh."""

from dataclasses import dataclass

from bundler import layout
from bundler.device.phone import Phone
from bundler.errors import PhoneRefused
from bundler.resources import DEVICE_SCRIPTS
from bundler.soc import Soc, find_soc

PROBE_S = 30.0


@dataclass(frozen=True)
class PhoneFacts:
    """What the phone says of itself; `net_run` is the snpe-net-run on its PATH, empty where there is none."""

    soc_model: str
    abi: str
    model: str
    android: str
    free_bytes: int | None
    net_run: str

    @property
    def soc(self) -> Soc | None:
        return find_soc(self.soc_model)


def probe(phone: Phone) -> PhoneFacts:
    """Asks the phone.

    Raises:
        PhoneRefused: its storage cannot be written; PhoneLost, PhoneTooSlow
    """
    script = (DEVICE_SCRIPTS / "probe.sh").read_bytes()
    doing = "looking at the phone"
    done = phone.run(["sh", "-s", str(layout.REMOTE_ROOT)], doing=doing, timeout_s=PROBE_S, stdin=[script])
    pairs = (line.partition("=") for line in done.stdout.decode(errors="replace").splitlines())
    values = {key: value.strip() for key, _, value in pairs}
    if values.get("writable") != "yes":
        raise PhoneRefused(phone.serial, f"making {layout.REMOTE_ROOT}", done.message)
    free_kb = values.get("free_kb", "")
    return PhoneFacts(
        soc_model=values.get("soc") or values.get("platform") or "unknown SoC",
        abi=values.get("abi", ""),
        model=values.get("model", ""),
        android=values.get("android", ""),
        free_bytes=int(free_kb) * 1024 if free_kb.isdigit() else None,
        net_run=values.get("net_run", ""),
    )
