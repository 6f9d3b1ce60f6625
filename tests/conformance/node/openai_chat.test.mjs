// The official OpenAI SDK: chat completions.

import assert from 'node:assert/strict';
import test from 'node:test';

import OpenAI from 'openai';
import { zodFunction, zodResponseFormat } from 'openai/helpers/zod';

import {
  apiKey,
  baseURL,
  callTokens,
  cities,
  cityOf,
  hello,
  noEnd,
  oneCall,
  poorKey,
  saying,
  seed,
  setFaults,
  shortTokens,
  simulated,
  thinking,
  weather,
} from './asking.mjs';

const client = new OpenAI({ baseURL, apiKey });
const user = (content) => [{ role: 'user', content }];
const base = { model: 'any', messages: user(hello) };
const asked = { ...base, max_tokens: shortTokens, logit_bias: noEnd };
const tools = [zodFunction({ name: 'get_weather', parameters: cityOf })];
const call = {
  ...base,
  max_tokens: callTokens,
  logit_bias: oneCall,
  parallel_tool_calls: false,
  tools,
  tool_choice: 'required',
};

const collect = async (stream) => {
  const found = [];
  for await (const item of stream) found.push(item);
  return found;
};

test('a whole answer', async () => {
  const { data, response } = await client.chat.completions.create(asked).withResponse();
  assert.equal(data.object, 'chat.completion');
  assert.ok(data.choices[0].message.content);
  assert.equal(data.usage.total_tokens, data.usage.prompt_tokens + data.usage.completion_tokens);
  assert.equal(response.headers.get('x-promptly-charged-tokens'), `${data.usage.total_tokens}`);
  assert.match(data._request_id, /^req_/);
  assert.equal(data.timings, undefined);
});

test('models', async () => {
  const [model] = await collect(client.models.list());
  assert.deepEqual(await client.models.retrieve(model.id), model);
});

test('every chunk of a stream', async () => {
  const stream = await client.chat.completions.create({
    ...asked,
    stream: true,
    stream_options: { include_usage: true },
  });
  const chunks = await collect(stream);
  const { usage, choices } = chunks.pop();
  assert.deepEqual(choices, []);
  assert.ok(usage.completion_tokens <= shortTokens);
  const deltas = chunks.map((chunk) => chunk.choices[0].delta);
  assert.equal(deltas[0].role, 'assistant');
  assert.ok(deltas.map((delta) => delta.content ?? '').join(''));
  assert.ok(['stop', 'length'].includes(chunks.at(-1).choices[0].finish_reason));
  assert.ok(chunks.every((chunk) => chunk.usage == null && chunk.timings === undefined));
});

test('the stream helper', async () => {
  const stream = client.chat.completions.stream({ ...base, seed });
  let text = '';
  stream.on('content', (delta) => (text += delta));
  const final = await stream.finalChatCompletion();
  assert.ok(text);
  assert.equal(final.choices[0].message.content, text);
});

test('thoughts', async () => {
  const answer = await client.chat.completions.create({
    ...asked,
    ...thinking,
    max_tokens: 40,
  });
  assert.ok(answer.choices[0].message.reasoning_content);
});

test('a tool call and its result', async () => {
  const answer = await client.chat.completions.parse(call);
  const { message, finish_reason: reason } = answer.choices[0];
  assert.equal(reason, 'tool_calls');
  assert.equal(message.content, null);
  assert.ok(cities.includes(message.tool_calls[0].function.parsed_arguments.city));
  const results = message.tool_calls.map((made) => ({
    role: 'tool',
    tool_call_id: made.id,
    content: '{"sunny":true}',
  }));
  const second = await client.chat.completions.create({
    ...asked,
    messages: [...asked.messages, message, ...results],
    tools,
    tool_choice: 'none',
  });
  assert.ok(second.choices[0].message.content);
});

test('a streamed tool call', async () => {
  const final = await client.chat.completions.stream(call).finalChatCompletion();
  const [made] = final.choices[0].message.tool_calls;
  assert.equal(made.function.name, 'get_weather');
  assert.ok(cities.includes(made.function.parsed_arguments.city));
});

simulated('tools that are run by the SDK', async () => {
  const runner = client.chat.completions.runTools({
    model: 'any',
    messages: user(saying('tool=1')),
    tools: [
      {
        type: 'function',
        function: {
          name: 'get_weather',
          parameters: { type: 'object', properties: { city: { type: 'string' } } },
          parse: JSON.parse,
          // The result becomes the last message, so it carries the next directives.
          function: ({ city }) => saying('tool=0 tokens=9', `sunny in ${city}`),
        },
      },
    ],
  });
  assert.ok(await runner.finalContent());
  assert.equal((await runner.allChatCompletions()).length, 2);
});

test('structured answers', async () => {
  const response_format = zodResponseFormat(weather, 'weather');
  const structured = { ...base, max_tokens: callTokens, response_format };
  const answer = await client.chat.completions.parse(structured);
  weather.parse(answer.choices[0].message.parsed);
  const streamed = await client.chat.completions.stream(structured).finalChatCompletion();
  weather.parse(streamed.choices[0].message.parsed);
});

test('errors have their classes', async () => {
  const bad = client.chat.completions.create({ ...asked, n: 2 });
  await assert.rejects(bad, (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.equal(error.param, 'n');
    assert.match(error.requestID, /^req_/);
    return true;
  });
  const stranger = new OpenAI({ baseURL, apiKey: 'sk-wrong' });
  await assert.rejects(stranger.models.list(), (error) => {
    assert.ok(error instanceof OpenAI.AuthenticationError);
    assert.equal(error.code, 'invalid_api_key');
    return true;
  });
});

test('an empty balance is not asked again', async () => {
  let asks = 0;
  const poor = new OpenAI({
    baseURL,
    apiKey: poorKey,
    fetch: (...request) => {
      asks += 1;
      return fetch(...request);
    },
  });
  await assert.rejects(poor.chat.completions.create(asked), (error) => {
    assert.equal(error.status, 402);
    assert.equal(error.code, 'insufficient_quota');
    return true;
  });
  assert.equal(asks, 1);
});

simulated('a failure is tried again', async () => {
  await setFaults({ status: 500, times: 1 });
  const answer = await client.chat.completions.create(asked);
  assert.ok(answer.choices[0].message.content);
});

simulated('an error in mid-stream', async () => {
  const stream = await client.chat.completions.create({
    ...base,
    messages: user(saying('tokens=20 error_after=5')),
    stream: true,
  });
  await assert.rejects(collect(stream), (error) => {
    assert.ok(error instanceof OpenAI.APIError);
    assert.equal(error.code, 'upstream_error');
    return true;
  });
});

simulated('comments while there is nothing to say', async () => {
  const stream = await client.chat.completions.create({
    ...asked,
    messages: user(saying('tokens=3 prefill_ms=1500')),
    stream: true,
  });
  assert.equal((await collect(stream)).at(-1).choices[0].finish_reason, 'stop');
});

simulated('leaving in mid-stream', async () => {
  const stream = await client.chat.completions.create({
    ...base,
    messages: user(saying('tokens=5000 delay_ms=5')),
    stream: true,
  });
  for await (const chunk of stream) if (chunk.choices[0].delta.content) break;
});

test('nothing speaks to the internet', async () => {
  await assert.rejects(fetch('http://192.0.2.1/'), (error) => {
    assert.match(`${error.cause?.message}`, /tests do not speak to 192\.0\.2\.1/);
    return true;
  });
});
