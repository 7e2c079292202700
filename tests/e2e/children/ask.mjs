// Ask through the TypeScript SDK, plainly and as a stream, and print what was answered: ask.mjs URL KEY
import Anthropic from '@anthropic-ai/sdk';

const [baseURL, authToken] = process.argv.slice(2);
const client = new Anthropic({ baseURL, authToken, apiKey: null, maxRetries: 0 });
const question = { model: 'claude-sonnet-5-5', max_tokens: 50, messages: [{ role: 'user', content: 'hi' }] };
const plain = await client.messages.create(question);
const streamed = await client.messages.stream(question).finalMessage();
const counted = await client.messages.countTokens({ model: question.model, messages: question.messages });
const models = await client.models.list();
let told;
try {
  await client.models.retrieve('claude-of-nowhere');
} catch (fault) {
  told = [fault.constructor.name, fault.status];
}
console.log(
  JSON.stringify({
    plain: plain.content[0].text,
    streamed: streamed.content[0].text,
    counted: counted.input_tokens,
    models: models.data.length,
    told,
  }),
);
