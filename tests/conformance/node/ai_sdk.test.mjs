// Vercel's AI SDK, through its OpenAI provider and its OpenAI-compatible provider.

import assert from 'node:assert/strict';
import test from 'node:test';

import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import {
  APICallError,
  Output,
  generateObject,
  generateText,
  stepCountIs,
  streamObject,
  streamText,
  tool,
} from 'ai';

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
  weather,
} from './asking.mjs';

const providers = {
  openai: {
    model: (key = apiKey) => createOpenAI({ baseURL, apiKey: key }).chat('any'),
    options: (logitBias, more = {}) => ({ openai: { logitBias, ...more } }),
  },
  compatible: {
    model: (key = apiKey) =>
      createOpenAICompatible({
        name: 'promptly',
        baseURL,
        apiKey: key,
        includeUsage: true,
        supportsStructuredOutputs: true,
      }).chatModel('any'),
    // This provider passes unknown options on under their given names.
    options: (logit_bias, { parallelToolCalls, ...more } = {}) => ({
      promptly: { logit_bias, parallel_tool_calls: parallelToolCalls, ...more },
    }),
  },
};

for (const [name, { model, options }] of Object.entries(providers)) {
  const asked = {
    model: model(),
    prompt: hello,
    maxOutputTokens: shortTokens,
    providerOptions: options(noEnd),
  };
  const call = {
    ...asked,
    maxOutputTokens: callTokens,
    providerOptions: options(oneCall, { parallelToolCalls: false }),
    tools: { get_weather: tool({ inputSchema: cityOf, execute: ({ city }) => `sunny in ${city}` }) },
    toolChoice: 'required',
  };
  const structured = { ...asked, maxOutputTokens: callTokens, providerOptions: undefined };

  test(`${name}: a whole answer`, async () => {
    const { text, usage, finishReason, warnings } = await generateText(asked);
    assert.ok(text);
    assert.equal(finishReason, 'length');
    assert.equal(usage.outputTokens, shortTokens);
    assert.equal(usage.totalTokens, usage.inputTokens + usage.outputTokens);
    assert.deepEqual(warnings ?? [], []);
  });

  test(`${name}: a stream`, async () => {
    const result = streamText({ ...asked, maxOutputTokens: undefined, providerOptions: {}, seed });
    let text = '';
    for await (const delta of result.textStream) text += delta;
    assert.equal(await result.text, text);
    assert.equal(await result.finishReason, 'stop');
    assert.ok((await result.usage).outputTokens > 0);
  });

  test(`${name}: a system message and a conversation`, async () => {
    const { text } = await generateText({
      ...asked,
      prompt: undefined,
      instructions: 'Be brief.',
      messages: [
        { role: 'user', content: 'hello' },
        { role: 'assistant', content: 'hello you' },
        { role: 'user', content: [{ type: 'text', text: hello }] },
      ],
    });
    assert.ok(text);
  });

  test(`${name}: a tool call and its result`, async () => {
    const { toolCalls, toolResults, finishReason } = await generateText(call);
    assert.equal(finishReason, 'tool-calls');
    assert.equal(toolCalls[0].toolName, 'get_weather');
    assert.ok(cities.includes(toolCalls[0].input.city));
    assert.equal(toolResults[0].output, `sunny in ${toolCalls[0].input.city}`);
  });

  test(`${name}: a streamed tool call that is named`, async () => {
    const result = streamText({
      ...call,
      toolChoice: { type: 'tool', toolName: 'get_weather' },
    });
    const kinds = new Set();
    for await (const part of result.fullStream) kinds.add(part.type);
    assert.ok(kinds.has('tool-input-delta'), [...kinds].join());
    assert.ok(cities.includes((await result.toolCalls)[0].input.city));
  });

  simulated(`${name}: tools in several steps`, async () => {
    const { text, steps } = await generateText({
      model: model(),
      prompt: saying('tool=1'),
      tools: {
        get_weather: tool({
          inputSchema: cityOf,
          // The result becomes the last message, so it carries the next directives.
          execute: ({ city }) => saying('tool=0 tokens=9', `sunny in ${city}`),
        }),
      },
      stopWhen: stepCountIs(3),
    });
    assert.ok(text);
    assert.equal(steps.length, 2);
  });

  test(`${name}: structured answers`, async () => {
    const { object } = await generateObject({ ...structured, schema: weather });
    weather.parse(object);
    const streamed = streamObject({ ...structured, schema: weather });
    let partial;
    for await (partial of streamed.partialObjectStream);
    assert.deepEqual(await streamed.object, partial);
    weather.parse(partial);
    const { output } = await generateText({
      ...structured,
      output: Output.object({ schema: weather }),
    });
    weather.parse(output);
  });

  test(`${name}: an empty balance is not asked again`, async () => {
    await assert.rejects(generateText({ ...asked, model: model(poorKey) }), (error) => {
      assert.ok(APICallError.isInstance(error));
      assert.equal(error.statusCode, 402);
      assert.equal(error.isRetryable, false);
      assert.match(error.message, /balance/);
      return true;
    });
  });

  simulated(`${name}: an error in mid-stream`, async () => {
    const result = streamText({
      model: model(),
      prompt: saying('tokens=20 error_after=5'),
      onError: () => {},
    });
    const errors = [];
    for await (const part of result.fullStream) if (part.type === 'error') errors.push(part.error);
    assert.equal(errors.length, 1);
    assert.match(JSON.stringify(errors[0], ['message', 'code', 'data', 'error']), /upstream_error/);
  });
}

// The SDK's core retries, independently of the provider.
simulated('a failure is tried again', async () => {
  await setFaults({ status: 500, times: 1 });
  const { text } = await generateText({ model: providers.openai.model(), prompt: hello });
  assert.ok(text);
});
