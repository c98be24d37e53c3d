"""What a virtual phone is made of: storage, properties, faults. Knows nothing of adb."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bundler.virtual.faults import Faults
from bundler.virtual.life import Life
from bundler.virtual.storage import Storage


@dataclass(frozen=True)
class Machine:
    """A virtual phone's storage and its properties, as getprop answers.

    `faults` are how it misbehaves; those that happen once need a `life` to remember it.
    """

    storage: Storage
    properties: Mapping[str, str]
    faults: Faults = field(default_factory=Faults)
    life: Life | None = None
