// Vercel's AI SDK through its OpenAI provider, which uses the Responses API by default.

import assert from 'node:assert/strict';
import test from 'node:test';

import { createOpenAI } from '@ai-sdk/openai';
import { APICallError, generateObject, generateText, streamObject, streamText } from 'ai';

import { apiKey, baseURL, hello, poorKey, saying, simulated, weather } from './asking.mjs';

const model = (key = apiKey) => createOpenAI({ baseURL, apiKey: key })('any');
const asked = { model: model(), prompt: hello };

test('responses: a whole answer', async () => {
  const { finishReason, usage } = await generateText({ ...asked, maxOutputTokens: 20 });
  assert.ok(['stop', 'length'].includes(finishReason));
  assert.ok(usage.outputTokens > 0);
  assert.equal(usage.totalTokens, usage.inputTokens + usage.outputTokens);
});

test('responses: a stream', async () => {
  const result = streamText(asked);
  let text = '';
  for await (const delta of result.textStream) text += delta;
  assert.equal(await result.text, text);
  assert.equal(await result.finishReason, 'stop');
});

test('responses: a conversation', async () => {
  const first = await generateText(asked);
  const { finishReason } = await generateText({
    model: model(),
    instructions: 'Be brief.',
    messages: [
      { role: 'user', content: 'hello' },
      ...first.response.messages,
      { role: 'user', content: hello },
    ],
    maxOutputTokens: 5,
    providerOptions: { openai: { store: false } },
  });
  assert.ok(['stop', 'length'].includes(finishReason));
});

test('responses: structured answers', async () => {
  const { object } = await generateObject({ ...asked, schema: weather });
  weather.parse(object);
  let partial;
  for await (partial of streamObject({ ...asked, schema: weather }).partialObjectStream);
  weather.parse(partial);
});

test('responses: an empty balance', async () => {
  await assert.rejects(generateText({ ...asked, model: model(poorKey) }), (error) => {
    assert.ok(APICallError.isInstance(error));
    assert.equal(error.statusCode, 402);
    return true;
  });
});

// This provider shows only summaries of reasoning, which we do not send, not the reasoning itself.
simulated('responses: thoughts stay out of the text', async () => {
  const { text, usage } = await generateText({ ...asked, prompt: saying('tokens=20 think=5') });
  assert.ok(text);
  assert.equal(usage.outputTokenDetails.reasoningTokens, 5);
});

simulated('responses: an error in mid-stream', async () => {
  const result = streamText({
    ...asked,
    prompt: saying('tokens=20 error_after=5'),
    onError: () => {},
  });
  const kinds = [];
  for await (const part of result.fullStream) kinds.push(part.type);
  assert.ok(kinds.includes('error'), kinds.join());
});
