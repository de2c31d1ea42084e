"""A WebSocket client: websocket_client.py SCENE URL [CA]

Prints its results line by line, and `done` at its end; an error is an exception.
"""

import asyncio
import os
import ssl
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

scene, url, *ca = sys.argv[1:]
context = ssl.create_default_context(cafile=ca[0]) if ca else None


def opened(path, jar=None, **options):
    """A connection with these cookies, verified by the name in the certificate."""
    cookies = {"Cookie": "; ".join(f"{k}={v}" for k, v in jar.items())} if jar else {}
    name = {"server_hostname": "shop.example"} if context else {}
    return connect(
        url + path,
        ssl=context,
        additional_headers=cookies,
        ping_interval=None,
        proxy=None,
        **name,
        **{"max_size": None, **options},
    )


def keep(jar, socket):
    for line in socket.response.headers.get_all("Set-Cookie"):
        key, _, value = line.split(";")[0].partition("=")
        jar[key] = value


def verdict(socket):
    return socket.response.headers["X-Stayput-Verdict"]


async def line():
    return (await asyncio.to_thread(sys.stdin.readline)).strip()


async def closed(socket):
    """The close code; 1006 if there was no close frame."""
    try:
        while True:
            await socket.recv()
    except ConnectionClosed:
        return socket.close_code


async def messages():
    """Texts, bytes, large and fragmented ones, pings, close codes of either side, compressed or not."""
    for options in ({}, {"compression": None}):
        async with opened("/", **options) as socket:
            for message in ("hallo, wörld", "", b"\x00\xff", os.urandom(3_000_000), "x" * 500_000):
                await socket.send(message)
                assert await socket.recv() == message
            await socket.send(part * 1_000 for part in ("a", "b", "c"))
            assert await socket.recv() == "a" * 1_000 + "b" * 1_000 + "c" * 1_000
            for _ in range(3):
                await (await socket.ping(os.urandom(100)))
            # Many messages in flight, both ways.
            parts = [os.urandom(2_000) for _ in range(300)]
            sending = asyncio.create_task(send_all(socket, parts))
            assert [await socket.recv() for _ in parts] == parts
            await sending
            await socket.close(4000, "thanks")
            assert (socket.close_code, socket.close_reason) == (4000, "thanks")
    async with opened("/bye") as socket:
        assert await closed(socket) == 4001
        assert socket.close_reason == "enough"


async def send_all(socket, parts):
    for part in parts:
        await socket.send(part)


async def reconnect():
    """Reaches the same replica with the cookie of the first 101; clients without it reach others."""
    jar = {}
    async with opened("/who") as socket:
        home = await socket.recv()
        keep(jar, socket)
        assert verdict(socket) == "new"
    assert "AWSALB" in jar, jar
    for _ in range(8):
        async with opened("/who", jar) as socket:
            assert await socket.recv() == home
            assert verdict(socket) == "hit"
            keep(jar, socket)
    met = set()
    for _ in range(8):
        async with opened("/who") as socket:
            met.add(await socket.recv())
    assert met == {"a", "b"}, met


async def idle():
    """A silent connection is cut, without a close frame; one that pings or is pinged is not."""
    loop = asyncio.get_running_loop()
    async with opened("/") as silent, opened("/", open_timeout=20) as lively:
        begun = loop.time()
        cut = asyncio.create_task(closed(silent))
        while loop.time() < begun + 4:
            await (await lively.ping())
            await asyncio.sleep(0.2)
        assert cut.done(), "the silent one is open still"
        assert await cut == 1006
        await lively.send("still here")
        assert await lively.recv() == "still here"


async def stay():
    """Prints its replica, stays until it is cut, then reconnects with its cookie."""
    jar = {}
    async with opened("/who") as socket:
        keep(jar, socket)
        print("with", await socket.recv(), flush=True)
        if await line() == "speak":
            await socket.send("during")
            assert await socket.recv() == "during"
            print("spoke", flush=True)
        print("closed", await closed(socket), flush=True)
    if await line() == "again":
        async with opened("/who", jar) as socket:
            print("again", await socket.recv(), verdict(socket), flush=True)


scenes = {scene.__name__: scene for scene in (messages, reconnect, idle, stay)}
asyncio.run(asyncio.wait_for(scenes[scene](), 50))
print("done")
