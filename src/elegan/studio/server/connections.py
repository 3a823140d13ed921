"""Connections that do not wait for ever, and keep little for whoever sends much: where uvicorn sets no bound."""

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

SLOWEST_HEAD = 10.0  # seconds for the head of a request, roughly
MOST_PARTS = 1_000  # of a message
MOST_UNREAD = 4 << 20  # bytes of pongs that a client has not read


class Http(H11Protocol):
    """Closes a connection on which no request gets begun."""

    def connection_made(self, transport) -> None:
        super().connection_made(transport)
        self.loop.call_later(SLOWEST_HEAD, self._look, None)

    def _look(self, before: object) -> None:
        if self not in self.connections:
            return  # closed, or a WebSocket by now
        waiting = self.conn.their_state is h11.IDLE and (self.cycle is None or self.cycle.response_complete)
        if waiting and self.cycle is before:
            self.transport.close()
        else:
            self.loop.call_later(SLOWEST_HEAD, self._look, self.cycle)


class WebSocket(WebSocketsSansIOProtocol):
    """Ends a client that sends a message in endless parts, or pings and never reads."""

    def handle_cont(self, event: Frame) -> None:
        super().handle_cont(event)
        if len(self.frames) > MOST_PARTS:
            self.transport.abort()

    def handle_ping(self) -> None:
        super().handle_ping()
        if self.transport.get_write_buffer_size() > MOST_UNREAD:
            self.transport.abort()
