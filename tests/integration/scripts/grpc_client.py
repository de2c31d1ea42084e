"""A gRPC client: grpc_client.py SCENE HOST:PORT [CA]

By prior knowledge, or over TLS where an authority is named. Says what it sees a line at a time and
`done` at its end; what is not as it should be is an exception.
"""

import os
import queue
import sys

import grpc

scene, address, *ca = sys.argv[1:]
LIMIT = 20


class Cart:
    """The service's calls on a new connection."""

    def __init__(self):
        options = [
            ("grpc.enable_http_proxy", 0),
            ("grpc.enable_retries", 0),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        if ca:
            with open(ca[0], "rb") as file:
                credentials = grpc.ssl_channel_credentials(file.read())
            options.append(("grpc.ssl_target_name_override", "shop.example"))
            self.channel = grpc.secure_channel(address, credentials, options)
        else:
            options.append(("grpc.default_authority", "shop.example"))
            self.channel = grpc.insecure_channel(address, options)
        one, many = self.channel.unary_unary, self.channel.unary_stream
        for call in ("who", "echo", "fail", "hang"):
            setattr(self, call, one(f"/shop.Cart/{call}"))
        for call in ("count", "endless"):
            setattr(self, call, many(f"/shop.Cart/{call}"))
        self.total = self.channel.stream_unary("/shop.Cart/total")
        self.chat = self.channel.stream_stream("/shop.Cart/chat")
        self.nothing = one("/shop.Cart/nothing")


def failed(call, *arguments, **options):
    """The error of a call that fails."""
    try:
        call(*arguments, **{"timeout": LIMIT, **options})
    except grpc.RpcError as error:
        return error
    raise AssertionError("the call succeeded")


def kinds():
    """The four kinds of call, many at once, with messages small, large and empty."""
    cart = Cart()
    for message in (b"", b"\x00\xff", os.urandom(3_000_000)):
        assert cart.echo(message, timeout=LIMIT) == message
    assert list(cart.count(b"1000", timeout=LIMIT)) == [str(n).encode() for n in range(1_000)]
    assert list(cart.count(b"0", timeout=LIMIT)) == []
    assert cart.total((str(n).encode() for n in range(1_000)), timeout=LIMIT) == b"499500"
    assert cart.total(iter(()), timeout=LIMIT) == b"0"
    # In turns: each message is sent when the response to the previous one has come.
    said = queue.Queue()
    answers = cart.chat(iter(said.get, None), timeout=LIMIT)
    home = None
    for turn in range(50):
        said.put(str(turn).encode())
        name, number = next(answers).split(b" ")
        home = home or name
        assert (name, number) == (home, str(turn).encode())
    said.put(None)
    assert next(answers, None) is None
    assert answers.code() is grpc.StatusCode.OK
    calls = [cart.echo.future(str(n).encode(), timeout=LIMIT) for n in range(200)]
    assert [call.result() for call in calls] == [str(n).encode() for n in range(200)]


def metadata():
    """Metadata before and after the messages, text and binary, and the balancer's own."""
    sent = [("x-mine", "here"), ("x-mine-bin", b"\x00\x01\xff")]
    answer, call = Cart().echo.with_call(b"m", metadata=sent, timeout=LIMIT)
    first, last = dict(call.initial_metadata()), dict(call.trailing_metadata())
    assert answer == b"m"
    assert (first["x-back"], first["x-back-bin"]) == ("here", b"\x00\x01\xff"), first
    assert first["x-stayput-verdict"] == "new" and first["x-stayput-target"] == first["x-name"]
    assert (last["x-trail"], last["x-trail-bin"]) == ("end", b"\x00\xff"), last


def statuses():
    """Every status code with its message, which is not ASCII."""
    cart = Cart()
    codes = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
    assert len(codes) == 16
    for code in codes:
        error = failed(cart.fail, str(code.value[0]).encode())
        assert (error.code(), error.details()) == (code, "Größe: 5 %"), error
    assert failed(cart.nothing, b"").code() is grpc.StatusCode.UNIMPLEMENTED
    assert cart.who(b"", timeout=LIMIT) in (b"a", b"b")


def deadline():
    """A deadline that passes, a cancelled call, and other calls on the same connection."""
    cart = Cart()
    error = failed(cart.hang, b"", timeout=1)
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED, error
    numbers = cart.endless(b"", timeout=LIMIT)
    assert [next(numbers) for _ in range(5)] == [b"0", b"1", b"2", b"3", b"4"]
    numbers.cancel()
    assert numbers.code() is grpc.StatusCode.CANCELLED
    assert cart.who(b"", timeout=LIMIT) in (b"a", b"b")


def cookie():
    """The replica of the first call's cookie, over one connection and over new ones."""
    cart, jar = Cart(), {}

    def who(cart):
        crumbs = [("cookie", f"{key}={value}") for key, value in jar.items()]
        name, call = cart.who.with_call(b"", metadata=crumbs, timeout=LIMIT)
        fields = call.initial_metadata()
        for key, line in fields:
            if key == "set-cookie":
                pair = line.split(";")[0].partition("=")
                jar[pair[0]] = pair[2]
        return name, dict(fields)["x-stayput-verdict"]

    home, verdict = who(cart)
    assert verdict == "new" and "AWSALB" in jar, (verdict, jar)
    for client in (cart, cart, Cart(), Cart(), cart, Cart()):
        assert who(client) == (home, "hit")
    met = {cart.who(b"", timeout=LIMIT) for _ in range(8)}
    assert met == {b"a", b"b"}, met


def header():
    """Equal values of the field reach one replica over any connection."""
    met = set()
    for session in range(8):
        fields = [("x-session", f"session {session}")]
        homes = {Cart().who(b"", metadata=fields, timeout=LIMIT) for _ in range(3)}
        assert len(homes) == 1, homes
        met |= homes
    assert met == {b"a", b"b"}, met


def unavailable():
    """A call that the balancer fails ends with status 14 (UNAVAILABLE)."""
    error = failed(Cart().who, b"")
    assert error.code() is grpc.StatusCode.UNAVAILABLE, error
    print("details", error.details())


def lost():
    """A call whose target dies ends with status 14 too."""
    cart = Cart()
    call = cart.hang.future(b"", timeout=LIMIT)
    assert failed(call.result, timeout=LIMIT).code() is grpc.StatusCode.UNAVAILABLE, call
    assert cart.who(b"", timeout=LIMIT) in (b"a", b"b")


def leave():
    """A bidirectional call that continues during a drain."""
    said = queue.Queue()
    answers = Cart().chat(iter(said.get, None), timeout=LIMIT)
    said.put(b"before")
    next(answers)
    print("talks", flush=True)
    sys.stdin.readline()
    said.put(b"after")
    assert next(answers).endswith(b" after")
    said.put(None)
    assert next(answers, None) is None
    assert answers.code() is grpc.StatusCode.OK


scenes = (kinds, metadata, statuses, deadline, cookie, header, unavailable, lost, leave)
{scene.__name__: scene for scene in scenes}[scene]()
print("done")
