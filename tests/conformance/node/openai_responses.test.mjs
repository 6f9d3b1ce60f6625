// The official OpenAI SDK: responses.

import assert from 'node:assert/strict';
import test from 'node:test';

import OpenAI from 'openai';
import { zodTextFormat } from 'openai/helpers/zod';

import { apiKey, baseURL, hello, saying, seed, simulated, weather } from './asking.mjs';

const client = new OpenAI({ baseURL, apiKey });
// With this seed the answer is not empty and ends by itself.
const asked = { model: 'any', input: hello, seed };

const collect = async (stream) => {
  const found = [];
  for await (const event of stream) found.push(event);
  return found;
};

test('a response', async () => {
  const answer = await client.responses.create(asked);
  assert.equal(answer.status, 'completed');
  assert.ok(answer.output_text);
  const { input_tokens: input, output_tokens: output, total_tokens: total } = answer.usage;
  assert.equal(total, input + output);
});

test('every event of a response', async () => {
  const events = await collect(await client.responses.create({ ...asked, stream: true }));
  assert.deepEqual(
    events.map((event) => event.sequence_number),
    events.map((_, index) => index),
  );
  const deltas = events.filter((event) => event.type === 'response.output_text.delta');
  const { type, response } = events.at(-1);
  assert.equal(type, 'response.completed');
  assert.equal(
    deltas.map((event) => event.delta).join(''),
    response.output[0].content[0].text,
  );
});

test('the stream helper for responses', async () => {
  const final = await client.responses.stream(asked).finalResponse();
  assert.ok(final.output_text);
  assert.equal(final.status, 'completed');
});

test('a response that is cut', async () => {
  const final = await client.responses
    .stream({ ...asked, max_output_tokens: 3 })
    .finalResponse();
  assert.equal(final.status, 'incomplete');
  assert.equal(final.incomplete_details.reason, 'max_output_tokens');
});

test('a response that is sent back', async () => {
  const { output } = await client.responses.create(asked);
  const second = await client.responses.create({
    ...asked,
    input: [{ role: 'user', content: 'hello' }, ...output, { role: 'user', content: hello }],
    max_output_tokens: 5,
    store: false,
  });
  assert.ok(second.usage.input_tokens > 0);
});

test('structured responses', async () => {
  const structured = {
    model: 'any',
    input: hello,
    text: { format: zodTextFormat(weather, 'weather') },
  };
  const answer = await client.responses.parse(structured);
  weather.parse(answer.output_parsed);
  const streamed = await client.responses.stream(structured).finalResponse();
  weather.parse(streamed.output_parsed);
});

test('a response that cannot be', async () => {
  const bad = client.responses.create({ ...asked, previous_response_id: 'resp_1' });
  await assert.rejects(bad, (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.equal(error.code, 'unsupported_parameter');
    return true;
  });
});

simulated('thoughts of a response', async () => {
  const stream = client.responses.stream({ ...asked, input: saying('tokens=20 think=5') });
  const final = await stream.finalResponse();
  assert.deepEqual(
    final.output.map((item) => item.type),
    ['reasoning', 'message'],
  );
});

simulated('a response that fails in mid-stream', async () => {
  const stream = await client.responses.create({
    ...asked,
    input: saying('tokens=20 error_after=5'),
    stream: true,
  });
  const events = await collect(stream);
  assert.equal(events.at(-1).type, 'response.failed');
  assert.equal(events.at(-1).response.error.code, 'server_error');
});
