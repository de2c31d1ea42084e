"""A replica that speaks WebSocket: websocket_target.py NAME

Responds to plain HTTP and health checks with its name, to / with page.html, and echoes every
message; /who sends its name first, /bye closes with 4001. A line `drain` on standard input makes it
ask for a drain, and `leave` closes every connection with 1001.
"""

import asyncio
import sys
from pathlib import Path

from websockets.asyncio.server import serve

name = sys.argv[1]
page = Path(__file__).with_name("page.html").read_text().replace("HOME", name)
draining = False


def plain(connection, request):
    """Responds to requests that are no handshake."""
    if request.headers.get("Upgrade", "").lower() == "websocket":
        return None
    response = connection.respond(200, page if request.path == "/" else name)
    if request.path == "/":
        del response.headers["Content-Type"]
        response.headers["Content-Type"] = "text/html; charset=utf-8"
    if draining and request.headers.get("User-Agent", "").startswith("ELB-HealthChecker"):
        response.headers["X-Stayput-Drain"] = "1"
    return response


async def echo(socket):
    path = socket.request.path
    if path == "/bye":
        await socket.close(4001, "enough")
    if path == "/who":
        await socket.send(name)
    async for message in socket:
        await socket.send(message)


async def main():
    global draining
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )
    async with serve(
        echo, "127.0.0.1", 0, process_request=plain, ping_interval=None, max_size=None
    ) as server:
        host, port = server.sockets[0].getsockname()
        print(f"listening {host}:{port}", flush=True)
        while line := (await lines.readline()).strip():
            if line == b"drain":
                draining = True
            elif line == b"leave":
                server.close()


asyncio.run(main())
