// An authorization server that isn't ours, with pages for people: oidc-provider and its own development pages. One client
// is public, one has a secret. Devices log in, too, and workloads: it takes identity tokens of a platform of its own,
// which GET /_e2e/identity/SUBJECT?left=SECONDS gives out. It prints {"url": …} when it listens.
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { SignJWT, jwtVerify } from 'jose';
import Provider, { errors } from 'oidc-provider';

const DEVICE = 'urn:ietf:params:oauth:grant-type:device_code';
const WORKLOAD = 'urn:ietf:params:oauth:grant-type:jwt-bearer';
const PLATFORM = 'https://platform.example';
const platform = generateKeyPairSync('ec', { namedCurve: 'P-256' });

const native = {
  application_type: 'native',
  grant_types: ['authorization_code', 'refresh_token', DEVICE, WORKLOAD],
  response_types: ['code'],
  redirect_uris: ['http://127.0.0.1/callback', 'http://127.0.0.1/oauth/callback'],
};

function identity(issuer, subject, left) {
  const now = Math.floor(Date.now() / 1000);
  return new SignJWT({}).setProtectedHeader({ alg: 'ES256' }).setSubject(subject).setIssuer(PLATFORM).setAudience(issuer)
    .setIssuedAt(now).setExpirationTime(now + left).sign(platform.privateKey);
}

// RFC 7523: who the client is, and how its body is read, the library sees to; here the identity token is verified.
async function workload(provider, ctx) {
  const { client, params } = ctx.oidc;
  let subject;
  try {
    const options = { issuer: PLATFORM, audience: provider.issuer };
    ({ payload: { sub: subject } } = await jwtVerify(params.assertion ?? '', platform.publicKey, options));
  } catch (fault) {
    throw new errors.InvalidGrant(fault.code);
  }
  const grant = new provider.Grant({ accountId: subject, clientId: client.clientId });
  grant.addOIDCScope(params.scope ?? '');
  const token = new provider.AccessToken({
    accountId: subject, client, grantId: await grant.save(), gty: 'jwt-bearer', scope: params.scope,
  });
  ctx.body = {
    access_token: await token.save(), expires_in: token.expiration, token_type: token.tokenType, scope: token.scope,
  };
}

function makeProvider(issuer) {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const provider = new Provider(issuer, {
    claims: { openid: ['sub'], email: ['email'] },
    clients: [
      { ...native, client_id: 'e2e-public', token_endpoint_auth_method: 'none' },
      {
        ...native,
        client_id: 'e2e-confidential',
        client_secret: 'e2e_secret:_with_+_and_%',
        token_endpoint_auth_method: 'client_secret_basic',
      },
    ],
    conformIdTokenClaims: false,
    cookies: { keys: [randomBytes(16).toString('hex')] },
    features: { deviceFlow: { enabled: true }, revocation: { enabled: true } },
    findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id, email: `${id}@mail.example` }) }),
    jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), alg: 'RS256', use: 'sig', kid: 'e2e' }] },
    rotateRefreshToken: true,
  });
  provider.registerGrantType(WORKLOAD, (ctx) => workload(provider, ctx), ['assertion', 'scope']);
  return provider;
}

let main;
let url;
const server = createServer(async (request, response) => {
  const { pathname, searchParams } = new URL(request.url, url);
  if (!pathname.startsWith('/_e2e/identity/')) main(request, response);
  else response.end(await identity(url, pathname.split('/')[3], Number(searchParams.get('left') ?? 3600)));
});
server.listen(0, '127.0.0.1', () => {
  url = `http://127.0.0.1:${server.address().port}`;
  main = makeProvider(url).callback();
  process.stdout.write(`${JSON.stringify({ url })}\n`);
});
process.stdin.on('end', () => process.exit(0)).resume(); // when the test goes, so does this
