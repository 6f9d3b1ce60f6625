// What both clients ask for; tests/conformance/asking.py says why it is asked like this.

import assert from 'node:assert/strict';
import net from 'node:net';
import test from 'node:test';

import { z } from 'zod';

export const baseURL = process.env.BASE_URL;
export const apiKey = process.env.API_KEY;
export const poorKey = process.env.POOR_API_KEY;

const simulator = process.env.SIMULATOR_URL;

// Nothing here speaks to the internet, telemetry least of all.
const connect = net.Socket.prototype.connect;
net.Socket.prototype.connect = function (...options) {
  const [target] = options.flat();
  const host = target?.host ?? target?.path ?? '127.0.0.1';
  assert.ok(['127.0.0.1', 'localhost', '::1'].includes(host), `tests do not speak to ${host}`);
  return connect.apply(this, options);
};

// Tests that steer the simulator; a real model does not obey.
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
// Tokens of the tiny model by their ids: 263 begins a call, 4 ends an answer.
export const noEnd = { 4: -100 };
export const oneCall = { 263: 25, 4: 30 };
export const callTokens = 300;
// With it the tiny model says a few words and ends by itself.
export const seed = 2;

export const cities = ['Paris', 'Rome'];
export const weather = z.object({
  place: z.object({ city: z.enum(cities) }),
  sunny: z.boolean(),
});
export const cityOf = z.object({ city: z.enum(cities) });
