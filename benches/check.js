// Key checks, for benches/run: RATE of them a second or, without RATE, as many as VUS callers get through, for SECONDS.
import { check } from "k6";
import { SharedArray } from "k6/data";
import http from "k6/http";

const { URL, SECRETS, RATE, VUS, SECONDS, SUMMARY } = __ENV;
const duration = `${SECONDS}s`;
const bodies = new SharedArray("bodies", () =>
  open(SECRETS).trim().split("\n").map((secret) => JSON.stringify({ apiKeySecret: secret })),
);
const params = { headers: { "Content-Type": "application/json" } };

export const options = {
  scenarios: {
    checks: RATE
      ? { executor: "constant-arrival-rate", rate: Number(RATE), duration, preAllocatedVUs: Number(VUS) }
      : { executor: "constant-vus", vus: Number(VUS), duration },
  },
  summaryTrendStats: ["med", "p(99)"],
};

export default function () {
  const answer = http.post(URL, bodies[Math.floor(Math.random() * bodies.length)], params);
  check(answer, { valid: (answer) => answer.status === 200 && answer.body.includes('"valid":true') });
}

export function handleSummary({ metrics }) {
  const { http_reqs: requests, http_req_duration: took, checks, dropped_iterations: dropped } = metrics;
  const summary = {
    requests: requests.values.count,
    rate: requests.values.rate,
    p50: took.values.med,
    p99: took.values["p(99)"],
    wrong: checks.values.fails,
    dropped: dropped ? dropped.values.count : 0,
  };
  return { [SUMMARY]: JSON.stringify(summary) };
}
