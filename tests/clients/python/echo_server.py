#!/usr/bin/env python3
"""A foreign service: `example.echo.v1.EchoService` on grpcio, which no gateway was built with.

    echo_server.py --listen localhost:0 --ca ca.crt --certificate echo.crt --key echo.key

The first line that it prints is `{"listening": PORT}`; then one line for each call. It ends on SIGTERM.

It answers as tests/proto says, and does what the caller's metadata asks for besides:

    x-echo-sleep-ms    waits before the first message of its answer
    x-echo-fail        ends with this status code in place of OK, after all messages
    x-echo-message     message of that status
    x-echo-detail      reason of a google.rpc.ErrorInfo (domain `example.com`) in its details
    x-echo-early       fails before any message: an answer of trailers only
    x-echo-compress    compresses its answer with `gzip` or `deflate`

Other metadata that begins with `x-` comes back in the headers and again in the trailers. Each `banqiao-NAME` that
arrived comes back in the trailers as `seen-NAME`, and the time that was left as `seen-timeout-ms`.
"""

import argparse
import signal
import sys
import threading
from concurrent import futures

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

import network
import stubs

stubs.generate()

from example.echo.v1 import echo_pb2, echo_pb2_grpc  # noqa: E402  (made by the line above)

COMPRESSIONS = {"gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate}
CODES = {code.value[0]: code for code in grpc.StatusCode}


class Wishes:
    """What a caller's metadata asks for."""

    def __init__(self, context):
        """Reads the metadata and sends the headers of the answer."""
        self._context = context
        received = context.invocation_metadata()
        self._wishes = {name: value for name, value in received if name.startswith("x-echo-")}
        self._back = [
            (name, value) for name, value in received if name.startswith("x-") and name not in self._wishes
        ]
        self._seen = [
            (f"seen-{name.removeprefix('banqiao-')}", value)
            for name, value in received
            if name.startswith("banqiao-")
        ]
        left = context.time_remaining()
        if left is not None:
            self._seen.append(("seen-timeout-ms", str(int(left * 1_000))))

    def begin(self):
        """Does what is asked for before the first message."""
        if "x-echo-compress" in self._wishes:
            self._context.set_compression(COMPRESSIONS[self._wishes["x-echo-compress"]])
        if "x-echo-sleep-ms" in self._wishes:
            self._sleep(int(self._wishes["x-echo-sleep-ms"]) / 1_000)
        if "x-echo-early" in self._wishes:
            self.end()
        self._context.send_initial_metadata(self._back)

    def end(self):
        """Sets the trailers, and the status that is asked for."""
        self._context.set_trailing_metadata(self._back + self._seen)
        if "x-echo-fail" not in self._wishes:
            return
        code = CODES[int(self._wishes["x-echo-fail"])]
        message = self._wishes.get("x-echo-message", "")
        if "x-echo-detail" not in self._wishes:
            self._context.abort(code, message)
        detail = any_pb2.Any()
        detail.Pack(error_details_pb2.ErrorInfo(reason=self._wishes["x-echo-detail"], domain="example.com"))
        status = rpc_status.to_status(
            status_pb2.Status(code=code.value[0], message=message, details=[detail])
        )
        # abort_with_status replaces the trailing metadata; the details stand in it.
        trailers = self._back + self._seen + list(status.trailing_metadata)
        self._context.set_trailing_metadata(trailers)
        self._context.abort(code, message)

    def _sleep(self, seconds):
        """Waits, but no longer than the caller does."""
        gone = threading.Event()
        if not self._context.add_callback(gone.set) or gone.wait(seconds):
            network.emit(cancelled=True)
            raise grpc.RpcError("the caller is gone")


class Echo(echo_pb2_grpc.EchoServiceServicer):
    """The service."""

    def Echo(self, request, context):
        """Unary."""
        return self._one(context, lambda: echo_pb2.EchoResponse(text=request.text, payload=request.payload))

    def Look(self, request, context):
        """Unary, without side effects."""
        return self._one(context, lambda: echo_pb2.LookResponse(text=request.text))

    def Put(self, request, context):
        """Unary, idempotent."""
        return self._one(context, lambda: echo_pb2.PutResponse(text=request.text))

    def Collect(self, request_iterator, context):
        """Client stream."""

        def answer():
            parts = [request.text for request in request_iterator]
            return echo_pb2.CollectResponse(text=" ".join(parts), count=len(parts))

        return self._one(context, answer)

    def Expand(self, request, context):
        """Server stream."""
        wishes = Wishes(context)
        wishes.begin()
        payload = bytes(request.payload_bytes)
        for number in range(request.count):
            yield echo_pb2.ExpandResponse(text=request.text, number=number, payload=payload)
        wishes.end()
        network.emit(method="Expand", messages=request.count)

    def Chat(self, request_iterator, context):
        """Both."""
        wishes = Wishes(context)
        wishes.begin()
        messages = 0
        for request in request_iterator:
            messages += 1
            yield echo_pb2.ChatResponse(text=request.text)
        wishes.end()
        network.emit(method="Chat", messages=messages)

    @staticmethod
    def _one(context, answer):
        wishes = Wishes(context)
        wishes.begin()
        response = answer()
        wishes.end()
        network.emit(method=type(response).__name__.removesuffix("Response"), messages=1)
        return response


def flags():
    """The command line."""
    top = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    top.add_argument("--listen", default="localhost:0", help="host:port; port 0 takes a free one")
    network.add_tls(top)
    return top.parse_args()


def run(arguments):
    """Serves until SIGTERM."""
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=64),
        options=[
            ("grpc.max_receive_message_length", network.LARGEST),
            ("grpc.max_send_message_length", network.LARGEST),
            ("grpc.so_reuseport", 0),
        ],
    )
    echo_pb2_grpc.add_EchoServiceServicer_to_server(Echo(), server)
    credentials = grpc.ssl_server_credentials(
        [(arguments.key.read_bytes(), arguments.certificate.read_bytes())],
        root_certificates=arguments.ca.read_bytes(),
        require_client_auth=True,
    )
    port = server.add_secure_port(arguments.listen, credentials)
    server.start()
    network.emit(listening=port)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    stopped.wait()
    server.stop(grace=1).wait()


if __name__ == "__main__":
    sys.exit(network.main(run, flags()))
