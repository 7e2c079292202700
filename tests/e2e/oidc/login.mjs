// An authorization server that isn't ours, with pages for people: oidc-provider and its own development pages. One client
// is public, one has a secret. It prints {"url": …} when it listens.
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import Provider from 'oidc-provider';

const native = {
  application_type: 'native',
  grant_types: ['authorization_code', 'refresh_token'],
  response_types: ['code'],
  redirect_uris: ['http://127.0.0.1/callback'],
};

function makeProvider(issuer) {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return new Provider(issuer, {
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
    features: { revocation: { enabled: true } },
    findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id, email: `${id}@mail.example` }) }),
    jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), alg: 'RS256', use: 'sig', kid: 'e2e' }] },
    rotateRefreshToken: true,
  });
}

let main;
const server = createServer((request, response) => main(request, response));
server.listen(0, '127.0.0.1', () => {
  const url = `http://127.0.0.1:${server.address().port}`;
  main = makeProvider(url).callback();
  process.stdout.write(`${JSON.stringify({ url })}\n`);
});
process.stdin.on('end', () => process.exit(0)).resume(); // when the test goes, so does this
