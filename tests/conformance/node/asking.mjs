// Requests shared by both clients; tests/conformance/asking.py explains them.

import assert from 'node:assert/strict';
import net from 'node:net';
import test from 'node:test';

import { z } from 'zod';

export const baseURL = process.env.BASE_URL;
export const apiKey = process.env.API_KEY;
export const poorKey = process.env.POOR_API_KEY;

const simulator = process.env.SIMULATOR_URL;

// Block connections to the internet, above all telemetry.
const connect = net.Socket.prototype.connect;
net.Socket.prototype.connect = function (...options) {
  const [target] = options.flat();
  const host = target?.host ?? target?.path ?? '127.0.0.1';
  assert.ok(['127.0.0.1', 'localhost', '::1'].includes(host), `tests do not speak to ${host}`);
  return connect.apply(this, options);
};

// Tests that steer the simulator; a real model ignores directives.
export const simulated = (name, run) => simulator && test(name, run);

export const setFaults = async (faults) => {
  const answer = await fetch(`${simulator}/__sim/faults`, {
    method: 'POST',
    body: JSON.stringify(faults),
  });
  assert.equal(answer.status, 200);
};

export const saying = (directives, text = 'hello') => `${text} [[sim ${directives}]]`;
export const hello = saying('tokens=12', 'hello world');
export const shortTokens = 10;
export const thinking = { chat_template_kwargs: { enable_thinking: true } };
// Token ids of the tiny model: 263 starts a tool call, 4 ends an answer.
export const noEnd = { 4: -100 };
export const oneCall = { 263: 25, 4: 30 };
export const callTokens = 300;
// With this seed the tiny model answers a few words and ends by itself.
export const seed = 2;

export const cities = ['Paris', 'Rome'];
export const weather = z.object({
  place: z.object({ city: z.enum(cities) }),
  sunny: z.boolean(),
});
export const cityOf = z.object({ city: z.enum(cities) });
