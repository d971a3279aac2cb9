#!/usr/bin/env node
'use strict';

// A foreign client of the card service: calls it through a gateway and prints JSON lines.
//
//   card_client.js --address localhost:8443 --ca ca.crt --certificate his.crt --key his.key \
//       --to 370200 --purpose card-service --basis emergency verify --card-number A01 --name 示例
//
// Each answer is a line with `response`; the last line has `status`, `reason` and `exchange`. The exit status is 0
// where everything is as the flags expect, else 1.

const fs = require('node:fs');
const network = require('./network.js');

const { expect, emit } = network;

/** VerifyCard: unary. */
async function verify(service, options) {
  const request = {
    key: {
      card_number: options['card-number'],
      social_security_number: options['social-security-number'],
      card_identification_code: options['card-identification-code'],
    },
    name: options.name,
    service_code: 'SERVICE_CODE_QUERY_STATE',
  };
  const call = await network.follow((done) =>
    service.VerifyCard(request, network.metadata(options), { deadline: network.deadline(options) }, done),
  );
  if (call.response) {
    emit({ response: call.response });
  }
  network.settle(call, options, 'VerifyCard');
  if (call.response && options['expect-match']) {
    expect(
      call.response.match === (options['expect-match'] === 'yes'),
      `VerifyCard says match=${call.response.match}; expected ${options['expect-match']}`,
    );
  }
}

/** WatchCardStates: server stream. Ends after so many changes, or when the service ends it. */
async function watch(service, options) {
  const wanted = Number(options.changes);
  let changes = 0;
  const each = (response, call) => {
    if (wanted > 0 && changes >= wanted) {
      return;
    }
    emit({ response });
    changes += response.change ? 1 : 0;
    if (wanted > 0 && changes >= wanted) {
      call.cancel();
    }
  };
  const start = () =>
    service.WatchCardStates({ cursor: options.cursor }, network.metadata(options), {
      deadline: network.deadline(options),
    });
  // Whoever waits for this line can make a change now that the stream will show.
  const opened = (seen) => emit({ method: 'WatchCardStates', open: true, exchange: network.exchange(seen) });
  const call = await network.follow(start, { opened, each });
  if (wanted > 0 && changes >= wanted) {
    emit({ method: 'WatchCardStates', changes });
    return;
  }
  network.settle(call, options, 'WatchCardStates');
  expect(
    wanted === 0 || options['expect-status'] !== 'OK',
    `WatchCardStates ended after ${changes} changes; expected ${wanted}`,
  );
}

/** ImportCards: client stream, from a file of JSON lines with the field names of CardRecord. */
async function importCards(service, options) {
  const lines = fs.readFileSync(options.file, 'utf8').split('\n').filter(Boolean);
  const call = await network.follow((done) => {
    const started = service.ImportCards(
      network.metadata(options),
      { deadline: network.deadline(options) },
      done,
    );
    lines.forEach((line, index) => started.write({ line: index + 1, card: JSON.parse(line) }));
    started.end();
    return started;
  });
  if (call.response) {
    emit({ response: call.response });
  }
  network.settle(call, options, 'ImportCards');
  if (!call.response) {
    return;
  }
  const { results, refused } = call.response;
  expect(results.length === lines.length, `${results.length} results for ${lines.length} lines`);
  expect(
    results.every((result, index) => Number(result.line) === index + 1),
    'the results are not in order',
  );
  if (options['expect-refused'] !== undefined) {
    expect(
      Number(refused) === Number(options['expect-refused']),
      `${refused} lines were refused; expected ${options['expect-refused']}`,
    );
  }
}

const METHODS = { verify, watch, import: importCards };

network.main(async () => {
  const options = network.flags({
    'card-number': { type: 'string', default: '' },
    'social-security-number': { type: 'string', default: '' },
    'card-identification-code': { type: 'string', default: '' },
    name: { type: 'string', default: '' },
    'expect-match': { type: 'string' },
    cursor: { type: 'string', default: '' },
    changes: { type: 'string', default: '1' },
    file: { type: 'string' },
    'expect-refused': { type: 'string' },
  });
  const [name, ...rest] = options.positionals;
  if (!METHODS[name] || rest.length > 0) {
    network.usage(`name one method: ${Object.keys(METHODS).join(', ')}`);
  }
  if (name === 'import' && !options.file) {
    network.usage('--file is missing');
  }
  const service = network.connect('banqiao/card/v1/card.proto', 'banqiao.card.v1.CardService', options);
  try {
    await METHODS[name](service, options);
  } finally {
    service.close();
  }
});
