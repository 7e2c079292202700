// Have a model call tools through Google's SDK, plainly and as a stream: genai.mjs URL KEY MODEL
import { GoogleGenAI } from '@google/genai';

const [baseUrl, apiKey, model] = process.argv.slice(2);
const client = new GoogleGenAI({ apiKey, httpOptions: { baseUrl } });
const declared = ['weather', 'time'].map((name) => ({
  name,
  parametersJsonSchema: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
}));
const config = {
  tools: [{ functionDeclarations: declared }],
  thinkingConfig: { includeThoughts: true, thinkingBudget: 2000 },
  maxOutputTokens: 4000,
};
const answerOf = (call) => ({
  functionResponse: { id: call.id, name: call.name, response: { output: `${call.name} of ${call.args.city}` } },
});

const chat = client.chats.create({ model, config });
const asked = await chat.sendMessage({ message: 'hi' });
const plain = await chat.sendMessage({ message: asked.functionCalls.map(answerOf) });

const streamed = client.chats.create({ model, config });
const parts = [];
const read = async (message) => {
  let text = '';
  const calls = [];
  for await (const chunk of await streamed.sendMessageStream({ message })) {
    for (const part of chunk.candidates?.[0]?.content?.parts ?? []) {
      parts.push(Object.keys(part).find((name) => name !== 'thoughtSignature'));
      text += part.thought ? '' : (part.text ?? '');
      if (part.functionCall) calls.push(part.functionCall);
    }
  }
  return { text, calls };
};
const first = await read('hi');
const last = await read(first.calls.map(answerOf));

let told;
try {
  await client.models.generateContent({ model, contents: 'hi', config: { cachedContent: 'cachedContents/1' } });
} catch (fault) {
  told = [fault.name, fault.status];
}
const counted = await client.models.countTokens({ model, contents: 'hi' });
const models = [];
for await (const one of await client.models.list()) {
  models.push(one.name);
}
console.log(
  JSON.stringify({
    calls: [asked.functionCalls.length, first.calls.length],
    texts: [plain.text, last.text],
    tokens: [asked.usageMetadata.promptTokenCount > 0, counted.totalTokens > 0],
    thought: parts.includes('thought') || parts.includes('text'),
    told,
    models,
  }),
);
