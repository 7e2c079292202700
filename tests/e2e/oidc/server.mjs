// An authorization server that isn't ours: oidc-provider, with a public client, rotation, and reuse detection that revokes
// the grant. It prints {"url": …} when it listens. Beside it, under /_e2e/, a door for the tests:
//   POST login {"account"}                      a first refresh token, with an access token that has expired
//   POST settings {"lifetime", "before", "after"}   seconds; milliseconds of pause before the work and before the answer
//   POST hold {"when": "before"|"after"|null}   keep refreshes waiting there; null lets them go on
//   GET  figures                                what happened, by account
import { createHash, generateKeyPairSync, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import Provider from 'oidc-provider';

const CLIENT = 'e2e-client';
const SCOPE = 'openid offline_access';
const settings = { lifetime: 3600, before: 0, after: 0 };
const presentations = [];
const revoked = [];
let held = null;
let release = [];

// The library's own memory adapter forgets the oldest of a thousand entries, and with them what was used before.
class Memory {
  static rows = new Map();
  constructor(model) { this.model = model; }
  key(id) { return `${this.model}:${id}`; }
  async upsert(id, payload) { Memory.rows.set(this.key(id), payload); }
  async find(id) { return Memory.rows.get(this.key(id)); }
  async findByUid(uid) { return [...Memory.rows.values()].find((row) => row.uid === uid); }
  async findByUserCode(code) { return [...Memory.rows.values()].find((row) => row.userCode === code); }
  async consume(id) { Memory.rows.get(this.key(id)).consumed = Math.floor(Date.now() / 1000); }
  async destroy(id) { Memory.rows.delete(this.key(id)); }
  async revokeByGrantId(grantId) {
    for (const [key, row] of Memory.rows) {
      if (row.grantId === grantId && key.startsWith(`${this.model}:`)) Memory.rows.delete(key);
    }
  }
}

const pause = (ms) => (ms > 0 ? new Promise((done) => { setTimeout(done, Math.random() * ms * 2); }) : undefined);

async function wait(when) {
  if (held === when) await new Promise((done) => { release.push(done); });
  await pause(settings[when]);
}

function letGo(when) {
  held = when;
  const waiting = release;
  release = [];
  for (const done of waiting) done();
}

function makeProvider(issuer) {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const provider = new Provider(issuer, {
    adapter: Memory,
    clients: [{
      client_id: CLIENT,
      token_endpoint_auth_method: 'none',
      application_type: 'native',
      grant_types: ['authorization_code', 'refresh_token'],
      response_types: ['code'],
      redirect_uris: ['http://127.0.0.1/callback'],
    }],
    cookies: { keys: [randomBytes(16).toString('hex')] },
    features: { devInteractions: { enabled: false } },
    findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    interactions: { url: () => '/none' },
    jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), alg: 'RS256', use: 'sig', kid: 'e2e' }] },
    rotateRefreshToken: true,
    ttl: {
      AccessToken: () => settings.lifetime, RefreshToken: 86400, Grant: 86400, IdToken: 3600, Session: 86400, Interaction: 3600,
    },
  });
  provider.use(async (ctx, next) => {
    if (ctx.path !== '/token') return next();
    const entry = { state: 'waiting' };
    presentations.push(entry);
    await wait('before');
    await next();
    const { body, oidc } = ctx;
    const { refresh_token: token = '', ...rest } = oidc?.params ?? {};
    entry.token = createHash('sha256').update(token).digest('hex');
    entry.account = oidc?.entities?.Account?.accountId ?? null;
    entry.form = ctx.is('application/x-www-form-urlencoded') !== false && rest.client_id === CLIENT;
    entry.outcome = ctx.status === 200 ? 'granted' : body?.error ?? String(ctx.status);
    entry.granted = createHash('sha256').update(body?.access_token ?? '').digest('hex');
    entry.state = 'decided';
    await wait('after');
    entry.state = 'answered';
    return undefined;
  });
  provider.on('grant.revoked', (ctx, grantId) => { revoked.push(grantId); });
  return provider;
}

async function login(provider, { account }) {
  const client = await provider.Client.find(CLIENT);
  const grant = new provider.Grant({ accountId: account, clientId: CLIENT });
  grant.addOIDCScope(SCOPE);
  const grantId = await grant.save();
  const token = new provider.RefreshToken({ accountId: account, client, grantId, gty: 'authorization_code', scope: SCOPE });
  return {
    access_token: `expired-${randomBytes(16).toString('hex')}`,
    refresh_token: await token.save(),
    expires_at: Math.floor(Date.now() / 1000) - 60,
  };
}

function figures() {
  const owners = new Map(); // of the refresh tokens that gave something
  const accounts = {};
  for (const { token, account, outcome } of presentations.filter((entry) => entry.token)) {
    const figure = accounts[owners.get(token) ?? account] ??= { grants: 0, reuses: 0 };
    if (owners.has(token)) figure.reuses += 1;
    if (outcome === 'granted') {
      owners.set(token, account);
      figure.grants += 1;
    }
  }
  return { accounts, presentations, revoked: revoked.length };
}

async function read(request) {
  let text = '';
  for await (const chunk of request) text += chunk;
  return text ? JSON.parse(text) : {};
}

async function sideDoor(provider, request) {
  const given = await read(request);
  switch (request.url) {
    case '/_e2e/login': return login(provider, given);
    case '/_e2e/settings': return Object.assign(settings, given);
    case '/_e2e/hold': letGo(given.when); return {};
    case '/_e2e/figures': return figures();
    default: return { error: 'there is no such call' };
  }
}

let provider;
let main;
const server = createServer((request, response) => {
  if (!request.url.startsWith('/_e2e/')) {
    main(request, response);
    return;
  }
  sideDoor(provider, request).then(
    (answer) => { response.setHeader('content-type', 'application/json'); response.end(JSON.stringify(answer)); },
    (error) => { response.statusCode = 500; response.end(JSON.stringify({ error: String(error) })); },
  );
});
server.listen(0, '127.0.0.1', 512, () => {
  const url = `http://127.0.0.1:${server.address().port}`;
  provider = makeProvider(url);
  main = provider.callback();
  process.stdout.write(`${JSON.stringify({ url })}\n`);
});
process.stdin.on('end', () => process.exit(0)).resume(); // when the test goes, so does this
