'use strict';

// What the Node clients of the tests share: flags, channels, metadata, expectations and JSON lines.

const fs = require('node:fs');
const path = require('node:path');
const { parseArgs } = require('node:util');
const { grpc, protoLoader } = require('./packages.js');

const ROOT = path.resolve(__dirname, '../../..');

// Both ends of the tests send messages of up to 64 MiB.
const LARGEST = 64 << 20;

/** An answer is not the expected one. */
class Unexpected extends Error {}

/** Fails with a message unless the condition holds. */
function expect(condition, message) {
  if (!condition) {
    throw new Unexpected(message);
  }
}

/** Prints one JSON line. */
function emit(line) {
  const plain = (_, value) => (value && value.type === 'Buffer' ? Buffer.from(value.data).toString('base64') : value);
  fs.writeSync(1, `${JSON.stringify(line, plain)}\n`);
}

// What google.rpc says of details; the npm packages bring no protos of it.
const DETAILS = protoLoader.fromJSON({
  nested: {
    google: {
      nested: {
        rpc: {
          nested: {
            Any: { fields: { type_url: { type: 'string', id: 1 }, value: { type: 'bytes', id: 2 } } },
            Status: {
              fields: {
                code: { type: 'int32', id: 1 },
                message: { type: 'string', id: 2 },
                details: { rule: 'repeated', type: 'Any', id: 3 },
              },
            },
            ErrorInfo: {
              fields: { reason: { type: 'string', id: 1 }, domain: { type: 'string', id: 2 } },
            },
          },
        },
      },
    },
  },
});

/** The google.rpc.ErrorInfo of a status in a domain, if there is one. */
function errorInfo(status, domain) {
  const [encoded] = status.metadata ? status.metadata.get('grpc-status-details-bin') : [];
  if (!encoded) {
    return undefined;
  }
  const types = 'google.rpc';
  return DETAILS[`${types}.Status`]
    .deserialize(encoded)
    .details.filter((detail) => detail.type_url.endsWith('/google.rpc.ErrorInfo'))
    .map((detail) => DETAILS[`${types}.ErrorInfo`].deserialize(detail.value))
    .find((info) => info.domain === domain);
}

/** The gateway's reason, if there is one. */
function reason(status) {
  const info = errorInfo(status, 'banqiao');
  return info ? info.reason : null;
}

/** The exchange id that a gateway puts on each answer; null without a gateway. */
function exchange(call) {
  const blocks = [call.headers, call.status && call.status.metadata].filter(Boolean);
  return blocks.flatMap((block) => block.get('banqiao-exchange-id'))[0] || null;
}

/** A status in words. */
function describe(status) {
  return `${grpc.status[status.code]} (${reason(status) || 'no reason of a gateway'}): ${status.details}`;
}

const FLAGS = {
  address: { type: 'string' },
  ca: { type: 'string' },
  certificate: { type: 'string' },
  key: { type: 'string' },
  'server-name': { type: 'string' },
  to: { type: 'string' },
  purpose: { type: 'string' },
  basis: { type: 'string' },
  operator: { type: 'string' },
  case: { type: 'string' },
  timeout: { type: 'string', default: '30' },
  'expect-status': { type: 'string', default: 'OK' },
  'expect-reason': { type: 'string' },
};

/** Reads the command line; `own` are flags besides those that every client has. */
function flags(own = {}) {
  let parsed;
  try {
    parsed = parseArgs({ options: { ...FLAGS, ...own }, allowPositionals: true });
  } catch (error) {
    usage(error.message);
  }
  for (const name of ['address', 'ca', 'certificate', 'key']) {
    if (!parsed.values[name]) {
      usage(`--${name} is missing`);
    }
  }
  return { ...parsed.values, timeout: Number(parsed.values.timeout), positionals: parsed.positionals };
}

/** Ends with a fault of the command line. */
function usage(fault) {
  process.stderr.write(`${path.basename(process.argv[1])}: ${fault}\n`);
  process.exit(64);
}

/** The generated client of a service, connected with the client's own certificate. */
function connect(proto, service, options) {
  const definition = protoLoader.loadSync(proto, {
    includeDirs: [path.join(ROOT, 'proto'), path.join(ROOT, 'tests/proto')],
    keepCase: true,
    // As in protobuf's JSON, and as the Python clients print them.
    longs: String,
    enums: String,
    defaults: true,
  });
  const [ca, key, certificate] = ['ca', 'key', 'certificate'].map((name) => fs.readFileSync(options[name]));
  const channel = {
    'grpc.max_receive_message_length': LARGEST,
    'grpc.max_send_message_length': LARGEST,
    // A client that repeats calls by itself would hide what the gateway does.
    'grpc.enable_retries': 0,
  };
  if (options['server-name']) {
    channel['grpc.ssl_target_name_override'] = options['server-name'];
  }
  const Service = service
    .split('.')
    .reduce((found, name) => found[name], grpc.loadPackageDefinition(definition));
  return new Service(options.address, grpc.credentials.createSsl(ca, key, certificate), channel);
}

/** The network's metadata for a call, and more. Values that are not ASCII are percent-encoded. */
function metadata(options, more = []) {
  const block = new grpc.Metadata();
  for (const name of ['to', 'purpose', 'basis', 'operator', 'case']) {
    if (options[name]) {
      block.set(`banqiao-${name}`, encodeURIComponent(options[name]).replace(/%3A/g, ':').replace(/%2F/g, '/'));
    }
  }
  for (const [name, value] of more) {
    block.add(name, value);
  }
  return block;
}

/** The deadline of a call that begins now. */
function deadline(options, seconds = options.timeout) {
  return new Date(Date.now() + 1_000 * seconds);
}

/**
 * Follows a call to its end: its headers, its messages or its one response, and its status, whether good or bad.
 * `start` makes the call; it is given the callback that unary and client-streaming methods need.
 */
function follow(start, { opened = () => {}, each = () => {} } = {}) {
  return new Promise((resolve) => {
    const seen = { headers: undefined, response: undefined, messages: 0, status: undefined };
    const call = start((_, response) => {
      seen.response = response;
      settled();
    });
    // A call with one response ends with both its status and its callback, in either order.
    const single = typeof call.read !== 'function';
    let open = single ? 2 : 1;
    const settled = () => {
      open -= 1;
      if (open === 0) {
        resolve(seen);
      }
    };
    call.on('metadata', (headers) => {
      seen.headers = headers;
      opened(seen);
    });
    call.on('status', (status) => {
      seen.status = status;
      settled();
    });
    if (!single) {
      call.on('error', () => {}); // The status says the same.
      call.on('data', (message) => {
        seen.messages += 1;
        each(message, call);
      });
    }
  });
}

/** Prints how a call ended and fails unless that was expected. */
function settle(call, options, method) {
  const status = grpc.status[call.status.code];
  const given = reason(call.status);
  emit({ method, status, reason: given, message: call.status.details, exchange: exchange(call) });
  const wanted = options['expect-status'];
  expect(status === wanted, `${method} ended with ${describe(call.status)}; expected ${wanted}`);
  if (options['expect-reason']) {
    expect(
      given === options['expect-reason'],
      `${method} was refused for ${given}; expected ${options['expect-reason']}`,
    );
  }
  // Without a gateway in between there is nobody to give the call an exchange id.
  if (options.to) {
    expect(exchange(call), `${method} was answered without an exchange id`);
  }
}

/** Runs a client: exit status 0, or 1 with a clear message on stderr and a last JSON line. */
async function main(run) {
  try {
    await run();
  } catch (error) {
    const fault = error instanceof Unexpected ? error.message : error.stack;
    emit({ failed: fault });
    process.stderr.write(`${path.basename(process.argv[1])}: ${fault}\n`);
    process.exitCode = 1;
  }
}

module.exports = {
  Unexpected,
  connect,
  deadline,
  describe,
  emit,
  errorInfo,
  exchange,
  expect,
  flags,
  follow,
  grpc,
  main,
  metadata,
  settle,
  usage,
};
