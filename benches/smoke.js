// The load smoke, `./dev load`: the life of a key, again and again and many at once, with every answer looked at.
// How long an answer took decides nothing: that would fail on a busy machine, for no reason of ours.
import { check } from "k6";
import exec from "k6/execution";
import http from "k6/http";
import { Counter } from "k6/metrics";

const { DEV_URL, DEV_EMAIL, DEV_PASSWORD, DEV_API_KEY, DEV_INTERNAL_URL, DEV_OPS_URL, DEV_ORG, DEV_SERVICE_ACCOUNT_ID } =
  __ENV;
const CHECKS_A_KEY = 25;

const lives = new Counter("lives");

export const options = {
  scenarios: {
    lives: { executor: "constant-vus", exec: "life", vus: 4, duration: "20s" },
    services: { executor: "constant-vus", exec: "service", vus: 4, duration: "20s" },
  },
  thresholds: { checks: ["rate==1"], http_req_failed: ["rate==0"], lives: ["count>0"] },
  summaryTrendStats: ["med", "p(99)", "max"],
  userAgent: "identityd-smoke",
};

// An answer with another status is a failed request.
http.setResponseCallback(http.expectedStatuses(200, 201, 204));

function post(url, body, token) {
  const headers = { "Content-Type": "application/json", ...(token && { Authorization: `Bearer ${token}` }) };
  return http.post(url, JSON.stringify(body), { headers });
}

function validate(url, secret) {
  const answer = post(`${url}/v1/auth/validate-api-key`, { apiKeySecret: secret });
  return answer.status === 200 ? answer.json() : {};
}

// Once, for all: sign-ins are slow and throttled, as they should be.
export function setup() {
  const answer = post(`${DEV_URL}/v1/auth/login`, { email: DEV_EMAIL, password: DEV_PASSWORD });
  if (!check(answer, { "the administrator signs in": (answer) => answer.status === 200 })) {
    exec.test.abort(`sign-in: ${answer.status} ${answer.body}`);
  }
  return { token: answer.json("access_token") };
}

// A key is issued, is good, is revoked, and is good no more.
export function life({ token }) {
  const org = `${DEV_URL}/v1/orgs/${DEV_ORG}`;
  const issued = post(`${org}/service-accounts/${DEV_SERVICE_ACCOUNT_ID}/api-keys`, {}, token);
  if (!check(issued, { "a key is issued": (issued) => issued.status === 201 })) return;
  const { apiKeyId, secret } = issued.json();

  for (let i = 0; i < CHECKS_A_KEY; i++) {
    check(validate(DEV_URL, secret), {
      "the key is valid": (key) => key.valid === true,
      "and it is this key": (key) => key.apiKeyId === apiKeyId && key.principalId === DEV_SERVICE_ACCOUNT_ID,
    });
  }

  const revoked = post(`${org}/api-keys/${apiKeyId}/revoke`, { reason: "load smoke" }, token);
  check(revoked, { "the key is revoked": (revoked) => revoked.status === 204 });
  check(validate(DEV_URL, secret), {
    "a revoked key is not valid": (key) => key.valid === false,
    "and why is said": (key) => key.code === "KEY_REVOKED",
  });
  lives.add(1);
}

// What services ask, inside the cluster: a good key, and one that never was.
export function service() {
  check(validate(DEV_INTERNAL_URL, DEV_API_KEY), { "a service finds a good key valid": (key) => key.valid === true });
  check(validate(DEV_INTERNAL_URL, "ids_nonsense"), {
    "a service finds nonsense unknown": (key) => key.valid === false && key.code === "KEY_UNKNOWN",
  });
}

export function teardown() {
  const ready = http.get(`${DEV_OPS_URL}/readyz`);
  check(ready, { "the server is ready still": (ready) => ready.status === 200 });
}
