// Have a model call both tools through the Vercel AI SDK, plainly and as a stream: ai_sdk.mjs URL KEY MODEL
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { generateText, jsonSchema, stepCountIs, streamText, tool } from 'ai';

const [baseURL, apiKey, name] = process.argv.slice(2);
const provider = createOpenAICompatible({ name: 'tokenferry', baseURL, apiKey, includeUsage: true });
const called = [];
const said = (word) =>
  tool({
    description: `says ${word}`,
    inputSchema: jsonSchema({ type: 'object', properties: { city: { type: 'string' } }, required: ['city'] }),
    execute: async ({ city }) => {
      called.push(`${word} ${city}`);
      return `${word} of ${city}`;
    },
  });
const asked = {
  model: provider(name),
  prompt: 'hi',
  maxRetries: 0,
  tools: { weather: said('sunny'), time: said('noon') },
  stopWhen: stepCountIs(3),
};
const plain = await generateText(asked);
const stream = streamText({ ...asked, onError: ({ error }) => { throw error; } });
const parts = [];
for await (const part of stream.fullStream) {
  parts.push(part.type);
}
let told;
try {
  await generateText({ ...asked, prompt: [{ role: 'user', content: 'x' }], model: provider('nowhere/else') });
} catch (fault) {
  told = [fault.statusCode, fault.message.length > 0];
}
console.log(
  JSON.stringify({
    called,
    told,
    parts,
    plain: [plain.text, plain.finishReason, plain.steps[0].toolCalls.length, plain.usage.inputTokens],
    streamed: [await stream.text, await stream.finishReason, (await stream.steps)[0].toolCalls.length, (await stream.usage).inputTokens],
  }),
);
