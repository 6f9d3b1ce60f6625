// The official OpenAI SDK: responses with function tools.

import assert from 'node:assert/strict';
import test from 'node:test';

import OpenAI from 'openai';
import { zodResponsesFunction, zodTextFormat } from 'openai/helpers/zod';

import {
  apiKey,
  baseURL,
  callTokens,
  cities,
  cityOf,
  hello,
  saying,
  simulated,
  weather,
} from './asking.mjs';

const client = new OpenAI({ baseURL, apiKey });
const tools = [zodResponsesFunction({ name: 'get_weather', parameters: cityOf })];
const asked = { model: 'any', input: hello, tools, max_output_tokens: callTokens, store: false };
// Otherwise the real model, which must call a tool, goes on calling until its limit.
const call = { ...asked, tool_choice: 'required', parallel_tool_calls: false };

const callsOf = (response) => response.output.filter((item) => item.type === 'function_call');

const answered = ({ output }) => [
  ...output,
  ...output
    .filter((item) => item.type === 'function_call')
    .map((made) => ({
      type: 'function_call_output',
      call_id: made.call_id,
      output: '{"sunny":true}',
    })),
];

test('a call and its result', async () => {
  const answer = await client.responses.parse(call);
  const [made] = callsOf(answer);
  assert.equal(made.name, 'get_weather');
  assert.ok(cities.includes(made.parsed_arguments.city));
  const second = await client.responses.create({
    ...asked,
    input: [{ role: 'user', content: hello }, ...answered(answer)],
    tool_choice: 'none',
  });
  assert.equal(second.status, 'completed');
  assert.ok(second.usage.input_tokens > answer.usage.input_tokens);
});

test('a streamed call', async () => {
  const stream = client.responses.stream(call);
  let streamed = '';
  stream.on('response.function_call_arguments.delta', (event) => (streamed += event.delta));
  const final = await stream.finalResponse();
  const [made] = callsOf(final);
  assert.equal(made.arguments, streamed);
  assert.ok(cities.includes(made.parsed_arguments.city));
});

test('a structured answer beside tools', async () => {
  const answer = await client.responses.parse({
    ...asked,
    input: saying('tool=2'),
    parallel_tool_calls: false,
    text: { format: zodTextFormat(weather, 'weather') },
  });
  const calls = callsOf(answer);
  if (answer.output_parsed) weather.parse(answer.output_parsed);
  else assert.ok(calls.length);
  for (const made of calls) assert.equal(made.name, 'get_weather');
});

test('tools that cannot be', async () => {
  const bad = client.responses.create({ ...asked, tools: [{ type: 'web_search' }] });
  await assert.rejects(bad, (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.equal(error.param, 'tools');
    return true;
  });
});

simulated('several calls and their results', async () => {
  const final = await client.responses
    .stream({ ...asked, input: saying('tool=3 think=3') })
    .finalResponse();
  assert.deepEqual(
    final.output.map((item) => item.type),
    ['reasoning', 'function_call', 'function_call', 'function_call'],
  );
  const turns = [...answered(final), { role: 'user', content: saying('tool=0 tokens=9') }];
  const second = await client.responses.create({ ...asked, input: turns });
  assert.ok(second.output_text);
});
