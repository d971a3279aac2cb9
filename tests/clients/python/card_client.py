#!/usr/bin/env python3
"""A foreign client of the card service: calls it through a gateway and prints JSON lines.

    card_client.py --address localhost:8443 --ca ca.crt --certificate his.crt --key his.key \\
        --to 370200 --purpose card-service --basis emergency verify --card-number A01 --name 示例

Each answer is a line with `response`; the last line has `status`, `reason` and `exchange`. The exit status is 0 where
everything is as the flags expect, else 1.
"""

import json
import sys

import grpc

import network
import stubs

stubs.generate()

from banqiao.card.v1 import card_pb2, card_pb2_grpc  # noqa: E402  (made by the line above)


def key(arguments):
    """The card that the flags name."""
    return card_pb2.CardKey(
        card_number=arguments.card_number or "",
        social_security_number=arguments.social_security_number or "",
        card_identification_code=arguments.card_identification_code or "",
    )


def verify(service, arguments):
    """VerifyCard: unary."""
    request = card_pb2.VerifyCardRequest(
        key=key(arguments), name=arguments.name or "", service_code=card_pb2.SERVICE_CODE_QUERY_STATE
    )
    try:
        response, call = service.VerifyCard.with_call(
            request, timeout=arguments.timeout, metadata=network.metadata(arguments)
        )
    except grpc.RpcError as error:
        return network.settle(error, arguments, "VerifyCard")
    network.emit(response=network.plain(response))
    network.settle(call, arguments, "VerifyCard")
    if arguments.expect_match is not None:
        network.expect(
            response.match == (arguments.expect_match == "yes"),
            f"VerifyCard says match={response.match}; expected {arguments.expect_match}",
        )
    return None


def watch(service, arguments):
    """WatchCardStates: server stream. Ends after so many changes, or when the service ends it."""
    request = card_pb2.WatchCardStatesRequest(cursor=arguments.cursor)
    call = service.WatchCardStates(request, timeout=arguments.timeout, metadata=network.metadata(arguments))
    changes = 0
    call.initial_metadata()
    if call.is_active():
        # Whoever waits for this line can make a change now that the stream will show.
        network.emit(method="WatchCardStates", open=True, exchange=network.opened(call))
    try:
        for response in call:
            network.emit(response=network.plain(response))
            changes += response.HasField("change")
            if changes >= arguments.changes > 0:
                call.cancel()
                network.emit(method="WatchCardStates", changes=changes)
                return
    except grpc.RpcError as error:
        network.settle(error, arguments, "WatchCardStates")
    else:
        network.settle(call, arguments, "WatchCardStates")
    network.expect(
        arguments.changes == 0 or arguments.expect_status != "OK",
        f"WatchCardStates ended after {changes} changes; expected {arguments.changes}",
    )


def records(arguments):
    """The lines to import, from a file of JSON objects with the field names of CardRecord."""
    with open(arguments.file, encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            yield card_pb2.ImportCardsRequest(line=number, card=card_pb2.CardRecord(**json.loads(line)))


def import_cards(service, arguments):
    """ImportCards: client stream."""
    try:
        response, call = service.ImportCards.with_call(
            records(arguments), timeout=arguments.timeout, metadata=network.metadata(arguments)
        )
    except grpc.RpcError as error:
        return network.settle(error, arguments, "ImportCards")
    network.emit(response=network.plain(response))
    network.settle(call, arguments, "ImportCards")
    with open(arguments.file, encoding="utf-8") as lines:
        sent = sum(1 for _ in lines)
    network.expect(len(response.results) == sent, f"{len(response.results)} results for {sent} lines")
    network.expect(
        [result.line for result in response.results] == list(range(1, sent + 1)), "the results are not in order"
    )
    if arguments.expect_refused is not None:
        network.expect(
            response.refused == arguments.expect_refused,
            f"{response.refused} lines were refused; expected {arguments.expect_refused}",
        )
    return None


def flags():
    """The command line."""
    top = network.parser(__doc__.splitlines()[0])
    methods = top.add_subparsers(required=True, metavar="verify|watch|import")
    one = methods.add_parser("verify", help="VerifyCard")
    one.add_argument("--card-number")
    one.add_argument("--social-security-number")
    one.add_argument("--card-identification-code")
    one.add_argument("--name")
    one.add_argument("--expect-match", choices=("yes", "no"))
    one.set_defaults(run=verify)
    one = methods.add_parser("watch", help="WatchCardStates")
    one.add_argument("--cursor", default="", help="empty: from now on; 0: from the first change")
    one.add_argument("--changes", type=int, default=1, help="end after so many changes; 0: with the stream")
    one.set_defaults(run=watch)
    one = methods.add_parser("import", help="ImportCards")
    one.add_argument("--file", required=True, help="JSON lines with the fields of CardRecord")
    one.add_argument("--expect-refused", type=int)
    one.set_defaults(run=import_cards)
    return top.parse_args()


def run(arguments):
    """Makes the one call that the flags name."""
    with network.channel(arguments) as channel:
        arguments.run(card_pb2_grpc.CardServiceStub(channel), arguments)


if __name__ == "__main__":
    sys.exit(network.main(run, flags()))
