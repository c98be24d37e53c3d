"""The adb daemon of a virtual phone, on a TCP port of this computer: its connections, its state, its restarts.

It is single-threaded, because it forks.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Coroutine

from bundler.virtual.children import Reaper
from bundler.virtual.connection import Connection
from bundler.virtual.faults import Faults, State
from bundler.virtual.keys import trusted_keys
from bundler.virtual.life import CUT, RESTART
from bundler.virtual.link import Link
from bundler.virtual.machine import Machine
from bundler.virtual.processes import end_descendants
from bundler.virtual.sessions import Service, Session, start
from bundler.virtual.stream import ClientStream

FEATURES = ("shell_v2", "stat_v2", "ls_v2", "fixed_push_mkdir", "fixed_push_symlink_timestamp", "sendrecv_v2")
AWAY_S = 1.0

log = logging.getLogger(__name__)


class Daemon:
    """The shared state of all connections: the phone, its link, its children, and their tasks."""

    def __init__(self, machine: Machine, reaper: Reaper, *, open_to_all: bool) -> None:
        self.state: State = "device"
        self.open = open_to_all
        self.link = Link(machine.faults, self.cut)
        self._machine = machine
        self._reaper = reaper
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: set[Connection] = set()
        self._restart = asyncio.Event()
        self._shells = 0
        self._begin_in_state(machine.faults)

    def _begin_in_state(self, faults: Faults) -> None:
        states: tuple[State, ...] = ("unauthorized", "offline")
        for state in states:
            for fault in faults.of(state):
                self.state = state
                if fault.values:
                    asyncio.get_running_loop().call_later(float(fault.values[0]), self._become_usable)

    def _become_usable(self) -> None:
        self.state = "device"
        for connection in self._connections:
            self.spawn(connection.greet_again())

    def trusts(self, token: bytes, signature: bytes) -> bool:
        """Returns whether a key of this computer's user signed the token; reads the keys at each call."""
        return bool(token) and any(key.signed(token, signature) for key in trusted_keys())

    def banner(self) -> bytes:
        """Returns the text with which the phone introduces itself."""
        names = ("ro.product.name", "ro.product.model", "ro.product.device")
        facts = [f"{name}={self._machine.properties.get(name, '')}" for name in names]
        return os.fsencode(f"device::{';'.join(facts)};features={','.join(FEATURES)}")

    def start(self, service: Service, stream: ClientStream) -> Session:
        """Forks a service's process.

        Raises:
            OSError: no process or file descriptor is available.
        """
        mute = any(fault.number in (None, self._shells) for fault in self._machine.faults.of("mute-shell"))
        self._shells += service.kind != "sync"
        return Session(service, stream, start(service, self._machine, self._reaper, mute=mute), self.link)

    def spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Runs `work` concurrently until the daemon ends."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finish)
        return task

    async def live(self, listener: socket.socket) -> None:
        """Accepts connections until the phone must restart."""
        self._restart.clear()
        accepting = asyncio.create_task(self._accept(listener))
        try:
            await self._restart.wait()
        finally:
            accepting.cancel()

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = await asyncio.get_running_loop().sock_accept(listener)
            except OSError as error:
                log.warning("no connection accepted: %s", error)
                await asyncio.sleep(0.1)
                continue
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.spawn(self._serve(Connection(sock, self)))

    async def _serve(self, connection: Connection) -> None:
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)

    def cut(self) -> None:
        """Breaks all connections; accepts new ones."""
        log.info("the link is cut")
        for connection in self._connections:
            connection.abandon()

    def restart(self) -> None:
        """Makes `live` return."""
        self._restart.set()

    async def go_down(self) -> None:
        """Ends everything that runs on the phone, without notice to its clients."""
        log.info("the phone restarts")
        self.cut()
        end_descendants()
        await self.close()

    async def close(self) -> None:
        """Ends all connections and hangs up all processes that are not detached."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _finish(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("defect in the daemon", exc_info=error)


async def serve(
    machine: Machine,
    port: int,
    *,
    ready: Callable[[int], None],
    address: str = "127.0.0.1",
    open_to_all: bool = False,
) -> None:
    """Serves `machine` as an adb device until cancelled; `ready` receives the port (0 asks for any free one).

    Requires each client to sign with a key of this computer's user, unless `open_to_all`.

    Raises:
        OSError: the port is taken.
    """
    loop = asyncio.get_running_loop()
    reaper = Reaper(loop)
    daemon = Daemon(machine, reaper, open_to_all=open_to_all)
    loop.add_signal_handler(CUT, daemon.cut)
    loop.add_signal_handler(RESTART, daemon.restart)
    try:
        while True:
            with socket.create_server((address, port)) as listener:
                listener.setblocking(False)
                port = listener.getsockname()[1]
                ready(port)
                await daemon.live(listener)
            await daemon.go_down()
            await asyncio.sleep(_away_s(machine.faults))
    finally:
        await daemon.close()
        reaper.close()


def _away_s(faults: Faults) -> float:
    """Returns the duration of a restart."""
    return next((float(fault.values[1]) for fault in faults.of("restart") if len(fault.values) > 1), AWAY_S)
