"""Connections of a local page that do not get on: closed after a while, and earlier where they are too many.

Uvicorn waits without end for a request that has begun. Each holds an open file, of which some systems allow 256 to a
process, so a few hundred of them would keep the page from answering. Imports uvicorn.
"""

import asyncio
import time
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER, BODY = 10.0, 60.0
"""Seconds in which a request's header, and its body, must have come."""
MOST = 64
"""Connections at once; browsers open six or so."""
LONGEST_HEADER = 16_384  # bytes
_TICK = 1.0  # seconds


class Connection(H11Protocol):
    """An HTTP connection that is closed where it keeps waiting."""

    def connection_made(self, transport: Any) -> None:
        """Make room where there are too many, and begin to watch this one."""
        while len(waiting := [each for each in self.connections if isinstance(each, Connection)]) >= MOST:
            oldest = min(waiting, key=lambda each: each.since)
            self.connections.discard(oldest)  # it leaves the set by itself, but later
            oldest.transport.abort()
        super().connection_made(transport)
        self.since = time.monotonic()
        self._before: object = None
        self._watch()

    def _watch(self) -> None:
        """Look every second how long the same has been waited for."""
        if self.transport.is_closing():
            return
        now, waits_for = time.monotonic(), self._waits_for()
        state = (waits_for, self.cycle)
        if waits_for is None or state != self._before:
            self.since, self._before = now, state
        elif now - self.since > waits_for:
            self.transport.abort()
            return
        asyncio.get_running_loop().call_later(_TICK, self._watch)

    def _waits_for(self) -> float | None:
        """How long may be waited for what comes next from the other side; None while an answer is made."""
        if self.cycle is None or self.cycle.response_complete:
            return HEADER
        return BODY if self.cycle.more_body else None
