"""A replica that speaks gRPC: grpc_target.py NAME [STREAMS]

STREAMS is the maximum number of concurrent calls on a connection.

Messages are raw bytes. It prints a line for each call that hangs and each that its client
cancelled.
"""

import itertools
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc

name, *streams = sys.argv[1:]
CODES = {code.value[0]: code for code in grpc.StatusCode}


def who(request, context):
    return name.encode()


def echo(request, context):
    """Responds with metadata before and after, and repeats `x-mine` and `x-mine-bin`."""
    came = [(key.replace("mine", "back"), value) for key, value in context.invocation_metadata()
            if key in ("x-mine", "x-mine-bin")]
    context.send_initial_metadata([("x-name", name), *came])
    context.set_trailing_metadata([("x-trail", "end"), ("x-trail-bin", b"\x00\xff")])
    return request


def count(request, context):
    for number in range(int(request)):
        yield str(number).encode()


def total(requests, context):
    return str(sum(int(request) for request in requests)).encode()


def chat(requests, context):
    for request in requests:
        yield name.encode() + b" " + request


def fail(request, context):
    context.abort(CODES[int(request)], "Größe: 5 %")


def given_up(context, what):
    """Sets the event, and prints it, when the client cancels."""
    ended = threading.Event()
    context.add_callback(lambda: (ended.set(), print("given up", what, flush=True)))
    return ended


def hang(request, context):
    """Never responds."""
    ended = given_up(context, "hang")
    print("hangs", context.time_remaining() or 0, flush=True)
    ended.wait(50)
    return b""


def endless(request, context):
    ended = given_up(context, "endless")
    for number in itertools.count():
        if ended.wait(0.01):
            return
        yield str(number).encode()


methods = {
    **{call.__name__: grpc.unary_unary_rpc_method_handler(call) for call in (who, echo, fail, hang)},
    **{call.__name__: grpc.unary_stream_rpc_method_handler(call) for call in (count, endless)},
    "total": grpc.stream_unary_rpc_method_handler(total),
    "chat": grpc.stream_stream_rpc_method_handler(chat),
}
server = grpc.server(
    ThreadPoolExecutor(40),
    handlers=[grpc.method_handlers_generic_handler("shop.Cart", methods)],
    options=[("grpc.max_concurrent_streams", int(most)) for most in streams],
)
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(f"listening 127.0.0.1:{port}", flush=True)
sys.stdin.readline()
server.stop(None)
