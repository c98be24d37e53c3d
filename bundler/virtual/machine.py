"""The parts of a virtual phone: storage, properties, faults. Independent of adb."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bundler.virtual.faults import Faults
from bundler.virtual.life import Life
from bundler.virtual.storage import Storage


@dataclass(frozen=True)
class Machine:
    """A virtual phone's storage and its properties, as returned by getprop.

    `faults` describe its misbehaviour; faults that happen only once need a `life` to remember it.
    """

    storage: Storage
    properties: Mapping[str, str]
    faults: Faults = field(default_factory=Faults)
    life: Life | None = None
