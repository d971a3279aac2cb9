#!/usr/bin/env python3
"""A foreign client that asks all cities at once: `RuledService.Find` with `--to '*'`.

It prints a JSON line for each message and one for each city's outcome, and fails where an outcome and the messages of its
city do not fit together: what a client must read is in `banqiao-outcomes-bin`, not in the number of messages.
"""

import collections
import sys

import grpc

import network
import stubs

stubs.generate()

from banqiao.exchange.v1 import outcome_pb2  # noqa: E402  (made by the line above)
from example.echo.v1 import ruled_pb2, ruled_pb2_grpc  # noqa: E402


def outcomes(call):
    """The outcome of each city, from the trailers."""
    values = [value for name, value in call.trailing_metadata() or () if name == "banqiao-outcomes-bin"]
    network.expect(len(values) == 1, f"{len(values)} values of banqiao-outcomes-bin")
    return outcome_pb2.Outcomes.FromString(values[0]).cities


def run(arguments):
    """Asks, counts, and holds the counts against the outcomes."""
    own = [*network.metadata(arguments), ("x-script", arguments.script)]
    found = collections.Counter()
    with network.channel(arguments) as channel:
        service = ruled_pb2_grpc.RuledServiceStub(channel)
        request = ruled_pb2.FindRequest(count=arguments.count)
        call = service.Find(request, metadata=own, timeout=arguments.timeout)
        try:
            for response in call:
                found[response.city] += 1
                network.emit(city=response.city, number=response.number)
        except grpc.RpcError as error:
            network.expect(error is call, f"another error: {error}")
        for outcome in outcomes(call):
            result = outcome_pb2.CityResult.Name(outcome.result)
            network.emit(outcome=outcome.city, result=result, messages=outcome.messages)
            network.expect(
                outcome.messages == found[outcome.city],
                f"{outcome.city} sent {found[outcome.city]} messages, and its outcome says {outcome.messages}",
            )
        network.settle(call, arguments, "Find")


if __name__ == "__main__":
    flags = network.parser(__doc__)
    flags.add_argument("--count", type=int, default=3, help="messages that each city is to send")
    flags.add_argument("--script", default="find", help="what the services are to do")
    sys.exit(network.main(run, flags.parse_args()))
