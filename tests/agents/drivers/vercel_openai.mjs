// Vercel's AI SDK with its provider for OpenAI as it is by default: over the Responses API.
// Each argument is a turn's prompt.
import { stepCountIs, streamText, tool } from "ai";
import { writeFileSync } from "node:fs";
import { z } from "zod";

import { model, providerOptions } from "./configuration.mjs";

const tools = {
  write_file: tool({
    description: "Write a text file",
    inputSchema: z.object({ path: z.string(), content: z.string() }),
    execute: ({ path, content }) => {
      writeFileSync(path, content);
      return `${content.length} characters written`;
    },
  }),
};

let messages = [];
for (const prompt of process.argv.slice(2)) {
  messages.push({ role: "user", content: prompt });
  const result = streamText({
    model,
    messages,
    tools,
    providerOptions,
    stopWhen: stepCountIs(5),
    onError: ({ error }) => {
      console.error(error);
      process.exitCode = 1;
    },
  });
  for await (const text of result.textStream) process.stdout.write(text);
  if (process.exitCode) break;
  process.stdout.write("\n");
  messages = [...messages, ...(await result.response).messages];
}
