// Completions and embeddings, with both SDKs.

import assert from 'node:assert/strict';
import test from 'node:test';

import { createOpenAI } from '@ai-sdk/openai';
import { embed, embedMany, generateText, streamText } from 'ai';
import OpenAI from 'openai';

import { apiKey, baseURL, hello, noEnd, shortTokens } from './asking.mjs';

const client = new OpenAI({ baseURL, apiKey });
const provider = createOpenAI({ baseURL, apiKey });
const asked = { model: 'any', prompt: hello, max_tokens: shortTokens, logit_bias: noEnd };

test('a completion', async () => {
  const answer = await client.completions.create(asked);
  assert.ok(answer.choices[0].text);
  assert.equal(answer.usage.completion_tokens, shortTokens);
});

test('a streamed completion', async () => {
  const stream = await client.completions.create({
    ...asked,
    stream: true,
    stream_options: { include_usage: true },
  });
  let text = '';
  let usage;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.text ?? '';
    usage = chunk.usage ?? usage;
  }
  assert.ok(text);
  assert.equal(usage.completion_tokens, shortTokens);
});

test('embeddings', async () => {
  const { data } = await client.embeddings.create({ model: 'any', input: [hello, 'a small boat'] });
  const plain = await client.embeddings.create({
    model: 'any',
    input: hello,
    encoding_format: 'float',
  });
  assert.equal(data.length, 2);
  assert.equal(data[0].embedding.length, plain.data[0].embedding.length);
  data[0].embedding.forEach((value, index) =>
    assert.ok(Math.abs(value - plain.data[0].embedding[index]) < 1e-6),
  );
});

test('completions with the AI SDK', async () => {
  const settings = {
    model: provider.completion('any'),
    prompt: hello,
    maxOutputTokens: shortTokens,
    providerOptions: { openai: { logitBias: noEnd } },
  };
  const { text, finishReason } = await generateText(settings);
  assert.ok(text);
  assert.equal(finishReason, 'length');
  const streamed = streamText(settings);
  let joined = '';
  for await (const delta of streamed.textStream) joined += delta;
  assert.ok(joined);
});

test('embeddings with the AI SDK', async () => {
  const model = provider.embeddingModel('any');
  const { embedding, usage } = await embed({ model, value: hello });
  assert.ok(usage.tokens > 0);
  const { embeddings } = await embedMany({ model, values: [hello, 'a small boat'] });
  assert.equal(embeddings.length, 2);
  assert.equal(embeddings[0].length, embedding.length);
});
