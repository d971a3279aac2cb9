#!/usr/bin/env node
'use strict';

// A foreign client of `example.echo.v1.EchoService`: checks that a call through gateways behaves as a direct one.
//
//   echo_client.js --address localhost:8443 --ca ca.crt --certificate his.crt --key his.key \
//       --to 370200 --purpose case-handling --basis emergency [CHECK...]
//
// Without `--to` it speaks to the service itself. It prints a JSON line for each check and exits 1 at the first that
// fails. The service is python/echo_server.py, or one that does what the same metadata asks for.

const network = require('./network.js');

const { expect, emit, grpc } = network;

// Within the limit of 4 MiB for methods that state none.
const LARGE = 3 << 20;

let service;
let options;

/** Calls a method with one request, or with an array of them, and follows it to its end. */
function call(method, request, { more = [], seconds, each } = {}) {
  const metadata = network.metadata(options, more);
  const settings = { deadline: network.deadline(options, seconds) };
  return network.follow(
    (done) => {
      const { requestStream, responseStream } = service[method];
      const given = [...(requestStream ? [] : [request]), metadata, settings, ...(responseStream ? [] : [done])];
      const started = service[method](...given);
      if (requestStream) {
        request.forEach((message) => started.write(message));
        started.end();
      }
      return started;
    },
    { each },
  );
}

/** The same for a call that must end well. */
async function good(...given) {
  const ended = await call(...given);
  expect(ended.status.code === grpc.status.OK, `${given[0]} ended with ${network.describe(ended.status)}`);
  return ended;
}

/** Text of every kind comes back, for each unary method. */
async function unary() {
  const payload = Buffer.from([0, 255]);
  for (const text of ['', 'plain', '板桥 · \0\r\n\u202e\u{1f409}', 'x'.repeat(10_000)]) {
    const { response } = await good('Echo', { text, payload });
    expect(response.text === text && response.payload.equals(payload), `Echo changed ${JSON.stringify(text)}`);
    for (const method of ['Look', 'Put']) {
      const ended = await good(method, { text });
      expect(ended.response.text === text, `${method} changed ${JSON.stringify(text)}`);
    }
  }
}

/** Messages close to the limit pass in both directions. */
async function large() {
  const payload = Buffer.alloc(LARGE, Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)));
  const { response } = await good('Echo', { payload });
  expect(response.payload.equals(payload), 'a large message was changed');
}

/** Every message of a stream arrives, once and in order. */
async function serverStream() {
  const numbers = [];
  await good('Expand', { text: 'a', count: 1_000, payload_bytes: 2_000 }, { each: ({ number }) => numbers.push(Number(number)) });
  expect(numbers.length === 1_000, `${numbers.length} messages arrived`);
  expect(numbers.every((number, index) => number === index), 'the messages are not in order');
  const empty = await good('Expand', {});
  expect(empty.messages === 0, 'an empty stream is not empty');
}

/** Every message of a stream reaches the service, once and in order. */
async function clientStream() {
  const texts = Array.from({ length: 1_000 }, (_, number) => String(number));
  const { response } = await good('Collect', texts.map((text) => ({ text })));
  expect(Number(response.count) === 1_000 && response.text === texts.join(' '), 'messages are missing');
  const empty = await good('Collect', []);
  expect(Number(empty.response.count) === 0, 'an empty stream is not empty');
}

/** Both sides speak in turn: nothing waits in a gateway for more to come. */
async function bothStreams() {
  let turn = 0;
  let wrong;
  const say = (started) => (turn < 100 ? started.write({ text: String(turn) }) : started.end());
  const ended = await network.follow(
    () => {
      const started = service.Chat(network.metadata(options), { deadline: network.deadline(options) });
      say(started);
      return started;
    },
    {
      each: ({ text }, started) => {
        wrong ??= text === String(turn) ? undefined : `turn ${turn} was answered with ${text}`;
        turn += 1;
        say(started);
      },
    },
  );
  expect(!wrong, wrong);
  expect(ended.status.code === grpc.status.OK, `the stream ended with ${network.describe(ended.status)}`);
  expect(ended.messages === 100, `${ended.messages} turns instead of 100`);
}

/** Metadata passes in both directions: duplicates in order, binary values, unusual characters. */
async function metadata() {
  const sent = [
    ['x-one', 'a'],
    ['x-one', 'b; c'],
    ['x-odd', '!#$&\'()*+/:;<=>?@[]^_`{|}~ %41 "\\'],
    ['x-raw-bin', Buffer.from([0, 255, 13, 10])],
  ];
  const ended = await good('Echo', {}, { more: sent });
  for (const [place, block] of [
    ['headers', ended.headers],
    ['trailers', ended.status.metadata],
  ]) {
    for (const name of new Set(sent.map(([known]) => known))) {
      const wanted = sent.filter(([known]) => known === name).map(([, value]) => String(value));
      // HTTP/2 in Node joins values of one name.
      const found = block.get(name).flatMap((value) => String(value).split(', '));
      expect(JSON.stringify(found) === JSON.stringify(wanted), `${name} came back in the ${place} as ${found}`);
    }
  }
  if (!options.to) {
    return;
  }
  const seen = ended.status.metadata;
  for (const name of ['client', 'exchange-id', 'purpose', 'basis']) {
    expect(seen.get(`seen-${name}`).length === 1, `the service did not see banqiao-${name} once`);
  }
  expect(seen.get('seen-to').length === 0, 'the service saw banqiao-to');
  expect(
    seen.get('seen-exchange-id')[0] === network.exchange(ended),
    'the service saw another exchange id than the client',
  );
}

/** Statuses arrive with code, message and details, early and late. */
async function status() {
  for (let code = 1; code <= 16; code += 1) {
    for (const early of [[], [['x-echo-early', '1']]]) {
      const more = [
        ['x-echo-fail', String(code)],
        ['x-echo-message', '100 % wrong'],
        ['x-echo-detail', 'ODD'],
        ...early,
      ];
      for (const ended of [await call('Echo', {}, { more }), await call('Expand', { count: 2 }, { more })]) {
        expect(ended.status.code === code, `status ${code} became ${network.describe(ended.status)}`);
        expect(ended.status.details === '100 % wrong', `the message became ${ended.status.details}`);
        const info = network.errorInfo(ended.status, 'example.com');
        expect(info && info.reason === 'ODD', 'the details are lost');
      }
    }
  }
}

/** Compressed answers pass. */
async function compression() {
  const text = '板桥'.repeat(5_000);
  for (const name of ['gzip', 'deflate']) {
    const { response } = await good('Echo', { text }, { more: [['x-echo-compress', name]] });
    expect(response.text === text, `a message in ${name} was changed`);
  }
}

/** A deadline reaches the service, has shrunk, and ends the call in time. */
async function deadline() {
  const near = await good('Echo', {}, { seconds: 20 });
  const left = Number(near.status.metadata.get('seen-timeout-ms')[0]);
  // The service's clock of deadlines is as coarse as grpcio's encoding of them.
  expect(left > 0 && left <= 20_250, `a timeout of 20 s became one of ${left} ms`);
  const began = Date.now();
  const ended = await call('Echo', {}, { more: [['x-echo-sleep-ms', '20000']], seconds: 0.3 });
  const took = Date.now() - began;
  expect(ended.status.code === grpc.status.DEADLINE_EXCEEDED, `it ended with ${network.describe(ended.status)}`);
  expect(took < 3_000, `a deadline of 300 ms took ${took} ms`);
}

/** A cancelled stream ends at once, and the connection stays usable. */
async function cancel() {
  const each = (_, started) => started.cancel();
  const ended = await call('Expand', { count: 1_000_000, payload_bytes: 1_000 }, { each });
  expect(ended.status.code === grpc.status.CANCELLED, `it ended with ${network.describe(ended.status)}`);
  const { response } = await good('Look', { text: 'still here' });
  expect(response.text === 'still here', 'the connection is gone');
}

const CHECKS = {
  unary,
  large,
  server_stream: serverStream,
  client_stream: clientStream,
  both_streams: bothStreams,
  metadata,
  status,
  compression,
  deadline,
  cancel,
};

network.main(async () => {
  options = network.flags();
  const unknown = options.positionals.find((name) => !CHECKS[name]);
  if (unknown) {
    network.usage(`no check ${unknown}: one of ${Object.keys(CHECKS).join(', ')}`);
  }
  service = network.connect('example/echo/v1/echo.proto', 'example.echo.v1.EchoService', options);
  try {
    if (options['expect-status'] !== 'OK') {
      network.settle(await call('Echo', {}), options, 'Echo');
      return;
    }
    for (const name of options.positionals.length > 0 ? options.positionals : Object.keys(CHECKS)) {
      const began = Date.now();
      try {
        await CHECKS[name]();
      } catch (error) {
        error.message = `${name}: ${error.message}`;
        throw error;
      }
      emit({ check: name, ok: true, ms: Date.now() - began });
    }
  } finally {
    service.close();
  }
});
