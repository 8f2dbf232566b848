// The other half of tests/tools/signed: the same answers by jose, on JSON that another library made canonical.
import { readFileSync } from 'node:fs'
import { pathToFileURL } from 'node:url'

const from = name => import(pathToFileURL(`${process.env.NODE_TOOLS}/${name}`))
const { createLocalJWKSet, flattenedVerify } = await from('jose/dist/webapi/index.js')
const { default: canonicalize } = await from('canonicalize/lib/canonicalize.js')

const { jwks, signed } = JSON.parse(readFileSync(0, 'utf8'))
const keys = createLocalJWKSet(jwks)
const base64url = text => Buffer.from(text, 'utf8').toString('base64url')
for (const [answer, jws] of signed) {
  const [header, , signature] = jws.split('.')
  const holds = text => flattenedVerify({ protected: header, payload: base64url(text), signature }, keys).then(() => true, () => false)
  if (!(await holds(canonicalize(answer)))) throw new Error(`not accepted: ${JSON.stringify(answer)}`)
  if (await holds(canonicalize(answer) + ' ')) throw new Error('accepted though changed')
}
