"""An HTTP/2 client made of Python's h2: h2_client.py SCENE HOST:PORT [CA]

With prior knowledge, or over TLS with ALPN if CA is given. Prints its results line by line, and
`done` at its end; an error is an exception.
"""

import socket
import ssl
import sys

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2 import events as seen
from hyperframe.frame import DataFrame, Frame, GoAwayFrame, HeadersFrame, PingFrame

scene, address, *ca = sys.argv[1:]
NAME = "shop.example"


class Stream:
    """A response as it arrives."""

    def __init__(self):
        self.fields, self.body, self.trailers = [], b"", []
        self.ended, self.reset = False, None

    def all(self, name):
        return [value for key, value in self.fields if key == name]

    def field(self, name):
        return next(iter(self.all(name)), None)


class Client:
    def __init__(self):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=20)
        if ca:
            context = ssl.create_default_context(cafile=ca[0])
            context.set_alpn_protocols(["h2", "http/1.1"])
            self.socket = context.wrap_socket(self.socket, server_hostname=NAME)
            assert self.socket.selected_alpn_protocol() == "h2"
        self.h2 = H2Connection(H2Configuration(header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.streams, self.buffer = {}, b""
        self.flush()

    def flush(self):
        self.socket.sendall(self.h2.data_to_send())

    def begin(self, path, fields=(), method="GET", end=True):
        number = self.h2.get_next_available_stream_id()
        head = [
            (":method", method),
            (":scheme", "https" if ca else "http"),
            (":authority", NAME),
            (":path", path),
            *fields,
        ]
        self.h2.send_headers(number, head, end_stream=end)
        self.streams[number] = Stream()
        self.flush()
        return number

    def send(self, number, body, end=True):
        """Sends as much as the windows allow, and waits for them to open."""
        at = 0
        while at < len(body):
            room = min(
                self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size
            )
            if room <= 0:
                self.read()
                continue
            self.h2.send_data(number, body[at : at + room])
            self.flush()
            at += room
        if end:
            self.h2.end_stream(number)
            self.flush()

    def frame(self):
        """Returns the bytes of one frame; `None` at the end of the connection."""
        while True:
            if len(self.buffer) >= 9:
                length = 9 + int.from_bytes(self.buffer[:3], "big")
                if len(self.buffer) >= length:
                    frame, self.buffer = self.buffer[:length], self.buffer[length:]
                    return frame
            more = self.socket.recv(65_536)
            if not more:
                return None
            self.buffer += more

    def read(self):
        """Processes one frame."""
        frame = self.frame()
        assert frame is not None, "the connection ended"
        for event in self.h2.receive_data(frame):
            self.note(event)
        self.flush()

    def note(self, event):
        stream = self.streams.get(getattr(event, "stream_id", None))
        if isinstance(event, seen.ResponseReceived):
            stream.fields = event.headers
        elif isinstance(event, seen.DataReceived):
            stream.body += event.data
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, seen.TrailersReceived):
            stream.trailers = event.headers
        elif isinstance(event, seen.StreamEnded):
            stream.ended = True
        elif isinstance(event, seen.StreamReset):
            stream.reset = event.error_code
        elif isinstance(event, seen.ConnectionTerminated):
            raise AssertionError(f"GOAWAY {event.error_code}")

    def wait(self, *numbers):
        """Reads until these streams have ended, and returns the last response."""
        while not all(self.streams[n].ended or self.streams[n].reset is not None for n in numbers):
            self.read()
        return self.streams[numbers[-1]]

    def get(self, path, fields=()):
        stream = self.wait(self.begin(path, fields))
        assert stream.reset is None, stream.reset
        return stream


def streams():
    """Fifty streams with interleaved bodies get their own responses; then a large body both ways."""
    client = Client()
    bodies = {}
    for at in range(50):
        number = client.begin("/echo", method="POST", end=False)
        bodies[number] = f"body {at} ".encode() * (at + 1) * 20
    for half in (0, 1):
        for number, body in bodies.items():
            middle = len(body) // 2
            client.send(number, (body[:middle], body[middle:])[half], end=bool(half))
    client.wait(*bodies)
    for number, body in bodies.items():
        stream = client.streams[number]
        assert stream.field(":status") == "200" and stream.body == body, (number, stream.fields)
    large = bytes(range(256)) * 12_000
    number = client.begin("/echo", method="POST", end=False)
    client.send(number, large)
    assert client.wait(number).body == large
    for stream in client.streams.values():
        names = {key for key, _ in stream.fields}
        assert not names & {"connection", "keep-alive", "transfer-encoding", "upgrade"}, names
        assert all(name == name.lower() for name in names)


def crumbs():
    """Cookies in one field each, as browsers send them: the pin among them holds."""
    first = Client().get("/name")
    assert first.field("x-stayput-verdict") == "new"
    jar = [line.split(";")[0] for line in first.all("set-cookie")]
    for _ in range(4):
        crumbs = ["theme=dark", *jar, "lang=de"]
        again = Client().get("/crumbs", [("cookie", crumb) for crumb in crumbs])
        assert again.field("x-stayput-verdict") == "hit", again.fields
        assert again.body == first.body
        print("sent", "; ".join(crumbs))
        for line in again.all("set-cookie"):
            name = line.split("=")[0]
            jar = [crumb for crumb in jar if not crumb.startswith(name + "=")]
            jar.append(line.split(";")[0])


def trailers():
    """Trailers cross both ways and end the stream."""
    client = Client()
    number = client.begin(
        "/trailers", [("te", "trailers"), ("trailer", "x-sum")], method="POST", end=False
    )
    client.send(number, b"hello", end=False)
    client.h2.send_headers(number, [("x-sum", "5")], end_stream=True)
    client.flush()
    stream = client.wait(number)
    assert stream.body == b"hello", stream.body
    assert ("x-sum", "5") in stream.trailers, stream.trailers


def reset():
    """A stream that its client resets, and others that continue."""
    client = Client()
    endless = client.begin("/endless")
    while not client.streams[endless].body:
        client.read()
    assert client.get("/name").field(":status") == "200"
    client.h2.reset_stream(endless, ErrorCodes.CANCEL)
    client.flush()
    print("reset", flush=True)
    for _ in range(5):
        assert client.get("/name").field(":status") == "200"
    assert sys.stdin.readline().strip() == "end"


def half():
    """A response cut by its target is reset and not complete."""
    client = Client()
    for _ in range(3):
        stream = client.wait(client.begin("/half"))
        # Unsent bytes are discarded with the stream.
        assert b"half".startswith(stream.body), stream.body
        assert stream.reset == ErrorCodes.INTERNAL_ERROR and not stream.ended, stream.reset
        assert client.get("/name").field(":status") == "200"


def goaway():
    """The end of the connection: open streams finish, and GOAWAY names the last one."""
    client = Client()
    assert client.get("/name").field(":status") == "200"
    number = client.begin("/slow")
    print("waits", flush=True)
    body, ended = b"", False
    # By hand: h2 treats the connection as closed at the first GOAWAY, which only announces the end.
    while raw := client.frame():
        frame, _ = Frame.parse_frame_header(memoryview(raw[:9]))
        frame.parse_body(memoryview(raw[9:]))
        if isinstance(frame, GoAwayFrame):
            print("goaway", frame.last_stream_id, frame.error_code, flush=True)
        elif isinstance(frame, PingFrame) and "ACK" not in frame.flags:
            pong = PingFrame(0, opaque_data=frame.opaque_data, flags=["ACK"])
            client.socket.sendall(pong.serialize())
        elif frame.stream_id == number and isinstance(frame, (HeadersFrame, DataFrame)):
            body += getattr(frame, "data", b"") if isinstance(frame, DataFrame) else b""
            ended |= "END_STREAM" in frame.flags
    assert ended and body == b"slow", (ended, body)
    print("closed", number, flush=True)


scenes = {scene.__name__: scene for scene in (streams, crumbs, trailers, reset, half, goaway)}
scenes[scene]()
print("done")
