"""What the Python clients of the tests share: flags, channels, metadata, expectations and JSON lines."""

import argparse
import json
import pathlib
import sys
import urllib.parse

import grpc
from google.protobuf import json_format
from google.rpc import error_details_pb2
from grpc_status import rpc_status

# Both ends of the tests send messages of up to 64 MiB.
LARGEST = 64 << 20


class Unexpected(Exception):
    """An answer is not the expected one."""


def expect(condition, message):
    """Fails with a message unless the condition holds."""
    if not condition:
        raise Unexpected(message)


def emit(**line):
    """Prints one JSON line, at once."""
    print(json.dumps(line, ensure_ascii=False), flush=True)


def main(run, arguments):
    """Runs a client: exit status 0, or 1 with a clear message on stderr and a last JSON line."""
    try:
        run(arguments)
    except grpc.RpcError as error:
        fault = f"the call failed: {describe(error)}"
    except Unexpected as error:
        fault = str(error)
    else:
        return 0
    emit(failed=fault)
    print(f"{pathlib.Path(sys.argv[0]).name}: {fault}", file=sys.stderr)
    return 1


def parser(description):
    """Flags that every client has."""
    flags = argparse.ArgumentParser(description=description)
    flags.add_argument("--address", required=True, help="host:port of a gateway, or of a service")
    add_tls(flags)
    flags.add_argument("--server-name", help="name that the server's certificate must carry, if not the address's")
    flags.add_argument("--to", help="city code or SPIFFE ID of the provider")
    flags.add_argument("--purpose", help="purpose code")
    flags.add_argument("--basis", help="legal basis, such as `statutory:社会保险法第五十八条`")
    flags.add_argument("--operator", help="on whose behalf")
    flags.add_argument("--case", help="number of the case")
    flags.add_argument("--timeout", type=float, default=30.0, help="seconds that a call may take")
    flags.add_argument("--expect-status", default="OK", help="status that the call must end with")
    flags.add_argument("--expect-reason", help="reason that the gateway must give")
    return flags


def add_tls(flags):
    """Flags for mutual TLS, with PEM files."""
    flags.add_argument("--ca", type=pathlib.Path, required=True, help="certificates of the CA to trust")
    flags.add_argument("--certificate", type=pathlib.Path, required=True, help="own certificate chain")
    flags.add_argument("--key", type=pathlib.Path, required=True, help="own private key")


def channel(arguments):
    """A channel with the client's own certificate."""
    credentials = grpc.ssl_channel_credentials(
        root_certificates=arguments.ca.read_bytes(),
        private_key=arguments.key.read_bytes(),
        certificate_chain=arguments.certificate.read_bytes(),
    )
    options = [
        ("grpc.max_receive_message_length", LARGEST),
        ("grpc.max_send_message_length", LARGEST),
        # A client that repeats calls by itself would hide what the gateway does.
        ("grpc.enable_retries", 0),
    ]
    if arguments.server_name:
        options.append(("grpc.ssl_target_name_override", arguments.server_name))
    return grpc.secure_channel(arguments.address, credentials, options)


def metadata(arguments):
    """The network's metadata for a call. Values that are not ASCII are percent-encoded."""
    names = ("to", "purpose", "basis", "operator", "case")
    given = ((name, getattr(arguments, name)) for name in names)
    return [(f"banqiao-{name}", urllib.parse.quote(value, safe=" :/-._~*")) for name, value in given if value]


def exchange(call):
    """The exchange id that a gateway puts on each answer; none without a gateway. Waits for the end of the call."""
    return opened(call) or _exchange_in(call.trailing_metadata())


def opened(call):
    """The exchange id in the headers of an answer. Waits for them."""
    return _exchange_in(call.initial_metadata())


def _exchange_in(block):
    return next((value for name, value in block or () if name == "banqiao-exchange-id"), None)


def reason(call):
    """The gateway's reason in `google.rpc.ErrorInfo`, if there is one."""
    status = rpc_status.from_call(call)
    for detail in status.details if status else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info) and info.domain == "banqiao":
            return info.reason
    return None


def describe(call):
    """A status in words."""
    return f"{call.code().name} ({reason(call) or 'no reason of a gateway'}): {call.details()}"


def plain(message):
    """A message as JSON: names as in the proto, fields without presence always there, 64-bit numbers as text."""
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def settle(call, arguments, method):
    """Prints how a call ended and fails unless that was expected."""
    status, given = call.code().name, reason(call)
    emit(method=method, status=status, reason=given, message=call.details() or "", exchange=exchange(call))
    expect(
        status == arguments.expect_status,
        f"{method} ended with {describe(call)}; expected {arguments.expect_status}",
    )
    if arguments.expect_reason:
        expect(
            given == arguments.expect_reason,
            f"{method} was refused for {given}; expected {arguments.expect_reason}",
        )
    # Without a gateway in between there is nobody to give the call an exchange id.
    if arguments.to:
        expect(exchange(call), f"{method} was answered without an exchange id")
