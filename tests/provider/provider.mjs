// An identity provider with one client. Whoever stands before it is who /person was told last, and says yes to
// everything. Arguments: folder of its packages, port, certificate, key, the client's way back, and the first person.
import { createServer } from 'node:https';
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const [packages, port, certificate, key, back, first] = process.argv.slice(2);
const { Provider } = await import(pathToFileURL(`${packages}/oidc-provider/lib/index.js`));

const signing = (type, options, alg) => ({
  ...generateKeyPairSync(type, options).privateKey.export({ format: 'jwk' }),
  kid: randomUUID(), alg, use: 'sig',
});
const people = new Map();
let present;
const comes = ({ sub, ...claims }) => {
  people.set(sub, claims);
  present = sub;
};
if (first) comes(JSON.parse(first));

const provider = new Provider(`https://127.0.0.1:${port}`, {
  clients: [{
    client_id: 'quantix', client_secret: 'a secret: with % signs', redirect_uris: [back],
    grant_types: ['authorization_code'], response_types: ['code'],
  }],
  jwks: { keys: [signing('rsa', { modulusLength: 2048 }, 'RS256'), signing('ec', { namedCurve: 'P-256' }, 'ES256')] },
  cookies: { keys: [randomUUID()] },
  claims: { openid: ['sub'], profile: ['preferred_username'], groups: ['groups'] },
  pkce: { required: () => true },
  features: { devInteractions: { enabled: false } },
  interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, ...people.get(id) }) }),
});

const answer = provider.callback();
createServer({ cert: readFileSync(certificate), key: readFileSync(key) }, async (request, response) => {
  if (request.url === '/person') {
    let body = '';
    for await (const part of request) body += part;
    comes(JSON.parse(body));
    return response.end('{}');
  }
  if (request.url.startsWith('/interaction/')) {
    const { params } = await provider.interactionDetails(request, response);
    const grant = new provider.Grant({ accountId: present, clientId: params.client_id });
    grant.addOIDCScope(params.scope);
    const result = { login: { accountId: present }, consent: { grantId: await grant.save() } };
    return provider.interactionFinished(request, response, result, { mergeWithLastSubmission: false });
  }
  return answer(request, response);
}).listen(Number(port), '127.0.0.1');
