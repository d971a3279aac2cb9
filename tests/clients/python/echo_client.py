#!/usr/bin/env python3
"""A foreign client of `example.echo.v1.EchoService`: checks that a call through gateways behaves as a direct one.

    echo_client.py --address localhost:8443 --ca ca.crt --certificate his.crt --key his.key \\
        --to 370200 --purpose case-handling --basis emergency [CHECK...]

Without `--to` it speaks to the service itself. It prints a JSON line for each check and exits 1 at the first that
fails. The service is echo_server.py, or one that does what the same metadata asks for.
"""

import queue
import sys
import time

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

import network
import stubs

stubs.generate()

from example.echo.v1 import echo_pb2, echo_pb2_grpc  # noqa: E402  (made by the line above)

# Within the limit of 4 MiB for methods that state none.
LARGE = 3 << 20


class Checks:
    """The checks, each a method; their order is the order of their names in the class."""

    def __init__(self, service, arguments):
        """Takes the stub and the flags."""
        self._service = service
        self._own = network.metadata(arguments)
        self._timeout = arguments.timeout

    def _call(self, method, request, *more, timeout=None, **options):
        return method(request, timeout=timeout or self._timeout, metadata=[*self._own, *more], **options)

    def _unary(self, method, request, *more, **options):
        return self._call(method.with_call, request, *more, **options)

    def _refused(self, method, request, *more, **options):
        """The error with which a call must end."""
        try:
            answer = self._call(method, request, *more, **options)
            if hasattr(answer, "__next__"):
                received = sum(1 for _ in answer)
                raise network.Unexpected(f"the stream ended well after {received} messages")
        except grpc.RpcError as error:
            return error
        raise network.Unexpected(f"the call succeeded: {answer}")

    def unary(self):
        """Text of every kind comes back, for each unary method."""
        service = self._service
        for text in ("", "plain", "板桥 · \x00\r\n\u202e\U0001f409", "x" * 10_000):
            response, _ = self._unary(service.Echo, echo_pb2.EchoRequest(text=text, payload=b"\x00\xff"))
            network.expect((response.text, response.payload) == (text, b"\x00\xff"), f"Echo changed {text!r}")
            response, _ = self._unary(service.Look, echo_pb2.LookRequest(text=text))
            network.expect(response.text == text, f"Look changed {text!r}")
            response, _ = self._unary(service.Put, echo_pb2.PutRequest(text=text))
            network.expect(response.text == text, f"Put changed {text!r}")

    def large(self):
        """Messages close to the limit pass in both directions."""
        payload = bytes(range(256)) * (LARGE // 256)
        response, _ = self._unary(self._service.Echo, echo_pb2.EchoRequest(payload=payload))
        network.expect(response.payload == payload, "a large message was changed")

    def server_stream(self):
        """Every message of a stream arrives, once and in order."""
        request = echo_pb2.ExpandRequest(text="a", count=1_000, payload_bytes=2_000)
        numbers = [response.number for response in self._call(self._service.Expand, request)]
        network.expect(numbers == list(range(1_000)), f"{len(numbers)} messages, or not in order")
        empty = list(self._call(self._service.Expand, echo_pb2.ExpandRequest()))
        network.expect(empty == [], "an empty stream is not empty")

    def client_stream(self):
        """Every message of a stream reaches the service, once and in order."""
        texts = [str(number) for number in range(1_000)]
        requests = (echo_pb2.CollectRequest(text=text) for text in texts)
        response, _ = self._unary(self._service.Collect, requests)
        network.expect((response.count, response.text) == (1_000, " ".join(texts)), "messages are missing")
        response, _ = self._unary(self._service.Collect, iter(()))
        network.expect(response.count == 0, "an empty stream is not empty")

    def both_streams(self):
        """Both sides speak in turn: nothing waits in a gateway for more to come."""
        outgoing = queue.SimpleQueue()
        call = self._call(self._service.Chat, iter(outgoing.get, None))
        for number in range(100):
            outgoing.put(echo_pb2.ChatRequest(text=str(number)))
            network.expect(next(call).text == str(number), f"turn {number} was answered wrongly")
        outgoing.put(None)
        network.expect(next(call, None) is None, "the service said more than it was asked")
        network.expect(call.code() is grpc.StatusCode.OK, f"the stream ended with {call.code()}")

    def metadata(self):
        """Metadata passes in both directions: duplicates in order, binary values, unusual characters."""
        sent = [
            ("x-one", "a"),
            ("x-one", "b, c"),
            ("x-odd", "!#$&'()*+/:;<=>?@[]^_`{|}~ %41 \"\\"),
            ("x-raw-bin", b"\x00\xff\r\n"),
            ("x-raw-bin", b""),
        ]
        _, call = self._unary(self._service.Echo, echo_pb2.EchoRequest(), *sent)
        for place, block in (("headers", call.initial_metadata()), ("trailers", call.trailing_metadata())):
            back = [(name, value) for name, value in block if name.startswith("x-")]
            network.expect(sorted(back) == sorted(sent), f"the {place} came back as {back}")
            ones = [value for name, value in back if name == "x-one"]
            network.expect(ones == ["a", "b, c"], f"duplicates in the {place} changed places: {ones}")
        if not self._own:
            return
        seen = {name: value for name, value in call.trailing_metadata() if name.startswith("seen-")}
        for name in ("seen-client", "seen-exchange-id", "seen-purpose", "seen-basis"):
            network.expect(name in seen, f"the service did not see {name}")
        network.expect("seen-to" not in seen, "the service saw banqiao-to")
        network.expect(
            seen["seen-exchange-id"] == network.exchange(call), "the service saw another exchange id than the client"
        )

    def status(self):
        """Statuses arrive with code, message and details, early and late."""
        fails = [("x-echo-message", "100 % wrong"), ("x-echo-detail", "ODD")]
        for code in range(1, 17):
            for early in ([], [("x-echo-early", "1")]):
                wishes = [("x-echo-fail", str(code)), *fails, *early]
                requests = (
                    (self._service.Echo, echo_pb2.EchoRequest()),
                    (self._service.Expand, echo_pb2.ExpandRequest(count=2)),
                )
                for method, request in requests:
                    error = self._refused(method, request, *wishes)
                    network.expect(error.code().value[0] == code, f"status {code} became {error.code()}")
                    network.expect(error.details() == "100 % wrong", f"the message became {error.details()!r}")
                    info = error_details_pb2.ErrorInfo()
                    network.expect(
                        rpc_status.from_call(error).details[0].Unpack(info) and info.reason == "ODD",
                        "the details are lost",
                    )

    def compression(self):
        """Compressed messages pass in both directions."""
        text = "板桥" * 5_000
        for name, algorithm in (("gzip", grpc.Compression.Gzip), ("deflate", grpc.Compression.Deflate)):
            response, _ = self._unary(
                self._service.Echo,
                echo_pb2.EchoRequest(text=text),
                ("x-echo-compress", name),
                compression=algorithm,
            )
            network.expect(response.text == text, f"a message in {name} was changed")

    def deadline(self):
        """A deadline reaches the service, has shrunk, and ends the call in time."""
        _, call = self._unary(self._service.Echo, echo_pb2.EchoRequest(), timeout=20)
        left = int(dict(call.trailing_metadata())["seen-timeout-ms"])
        # grpcio rounds a timeout up by a hundredth where it sends it.
        network.expect(0 < left <= 20_250, f"a timeout of 20 s became one of {left} ms")
        began = time.monotonic()
        error = self._refused(
            self._service.Echo, echo_pb2.EchoRequest(), ("x-echo-sleep-ms", "20000"), timeout=0.3
        )
        took = time.monotonic() - began
        network.expect(error.code() is grpc.StatusCode.DEADLINE_EXCEEDED, f"it ended with {error.code()}")
        network.expect(took < 3, f"a deadline of 0.3 s took {took:.1f} s")

    def cancel(self):
        """A cancelled stream ends at once, and the connection stays usable."""
        call = self._call(self._service.Expand, echo_pb2.ExpandRequest(count=1_000_000, payload_bytes=1_000))
        next(call)
        call.cancel()
        network.expect(call.code() is grpc.StatusCode.CANCELLED, f"it ended with {call.code()}")
        response, _ = self._unary(self._service.Look, echo_pb2.LookRequest(text="still here"))
        network.expect(response.text == "still here", "the connection is gone")


CHECKS = [name for name in vars(Checks) if not name.startswith("_")]


def flags():
    """The command line."""
    top = network.parser(__doc__.splitlines()[0])
    top.add_argument("checks", nargs="*", metavar="CHECK", help=f"of {', '.join(CHECKS)}; all if none is named")
    arguments = top.parse_args()
    unknown = set(arguments.checks) - set(CHECKS)
    if unknown:
        top.error(f"no such check: {', '.join(sorted(unknown))}")
    return arguments


def run(arguments):
    """Runs the checks, or one call that must be refused."""
    with network.channel(arguments) as channel:
        service = echo_pb2_grpc.EchoServiceStub(channel)
        if arguments.expect_status != "OK":
            try:
                response, call = service.Echo.with_call(
                    echo_pb2.EchoRequest(), timeout=arguments.timeout, metadata=network.metadata(arguments)
                )
            except grpc.RpcError as error:
                return network.settle(error, arguments, "Echo")
            network.emit(response=network.plain(response))
            return network.settle(call, arguments, "Echo")
        checks = Checks(service, arguments)
        for name in arguments.checks or CHECKS:
            began = time.monotonic()
            try:
                getattr(checks, name)()
            except network.Unexpected as error:
                raise network.Unexpected(f"{name}: {error}") from error
            except grpc.RpcError as error:
                raise network.Unexpected(f"{name}: {network.describe(error)}") from error
            network.emit(check=name, ok=True, ms=round(1_000 * (time.monotonic() - began)))
    return None


if __name__ == "__main__":
    sys.exit(network.main(run, flags()))
