// Vercel's AI SDK through its OpenAI provider, which uses the Responses API by default: tools.

import assert from 'node:assert/strict';
import test from 'node:test';

import { createOpenAI } from '@ai-sdk/openai';
import { APICallError, generateText, Output, stepCountIs, streamText, tool } from 'ai';

import { apiKey, baseURL, callTokens, cities, cityOf, hello, saying, simulated, weather } from './asking.mjs';

const model = createOpenAI({ baseURL, apiKey })('any');
// Without this, the provider refers to earlier texts instead of sending them.
const unstored = { openai: { store: false } };
// The result becomes the last message, so it carries the next directives.
const execute = ({ city }) => saying('tool=0 tokens=9', `sunny in ${city}`);
const tools = { get_weather: tool({ inputSchema: cityOf, execute }) };
const asked = { model, tools, maxOutputTokens: callTokens, providerOptions: unstored };
// Otherwise the real model, which must call a tool, goes on calling until its limit.
const single = { openai: { store: false, parallelToolCalls: false } };
const call = { ...asked, prompt: hello, toolChoice: 'required', providerOptions: single };

test('responses: a call and its result', async () => {
  const { toolCalls, toolResults, finishReason } = await generateText(call);
  assert.equal(finishReason, 'tool-calls');
  assert.equal(toolCalls[0].toolName, 'get_weather');
  assert.ok(cities.includes(toolCalls[0].input.city));
  assert.ok(toolResults[0].output.startsWith(`sunny in ${toolCalls[0].input.city}`));
});

test('responses: a streamed call that is named', async () => {
  const result = streamText({ ...call, toolChoice: { type: 'tool', toolName: 'get_weather' } });
  const kinds = new Set();
  for await (const part of result.fullStream) kinds.add(part.type);
  assert.ok(kinds.has('tool-input-delta'), [...kinds].join());
  assert.ok(cities.includes((await result.toolCalls)[0].input.city));
});

test('responses: a conversation with a call in it', async () => {
  const first = await generateText(call);
  const { finishReason } = await generateText({
    ...asked,
    messages: [{ role: 'user', content: hello }, ...first.response.messages],
    toolChoice: 'none',
  });
  assert.ok(['stop', 'length'].includes(finishReason));
});

simulated('responses: tools in several steps', async () => {
  const several = { ...asked, prompt: saying('tool=2'), stopWhen: stepCountIs(3) };
  const { text, steps } = await generateText(several);
  assert.ok(text);
  assert.equal(steps.length, 2);
  const result = streamText(several);
  for await (const _ of result.fullStream);
  assert.ok(await result.text);
  assert.equal((await result.steps).length, 2);
});

simulated('responses: an object beside tools', async () => {
  const { steps } = await generateText({
    ...asked,
    prompt: saying('tool=2'),
    output: Output.object({ schema: weather }),
  });
  assert.equal(steps[0].toolCalls.length, 1);
  weather.parse(JSON.parse(steps[0].text));
});

simulated('responses: what the provider does by default is refused with the reason', async () => {
  const { response } = await generateText({ model, prompt: hello });
  const messages = [{ role: 'user', content: hello }, ...response.messages];
  const second = generateText({ model, messages: [...messages, { role: 'user', content: hello }] });
  await assert.rejects(second, (error) => {
    assert.ok(APICallError.isInstance(error));
    assert.equal(error.statusCode, 400);
    assert.match(error.message, /item_reference.*store: false/);
    return true;
  });
});
