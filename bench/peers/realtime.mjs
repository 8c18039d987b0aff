// Upstash Realtime behind Node's own HTTP server, as its documentation has it behind Next.js: a route that emits, and
// the handler of the streams. `node realtime.mjs PORT MAX_EVENTS`; the database is in UPSTASH_REDIS_REST_URL and _TOKEN.
import { createServer } from "node:http";
import { Redis } from "@upstash/redis";
import { Realtime, handle } from "@upstash/realtime";
import { z } from "zod";

const [port, maxLength] = process.argv.slice(2).map(Number);
const redis = Redis.fromEnv();
const schema = {
  mailbox: { changed: z.object({ id: z.string(), emailAddress: z.string(), historyId: z.string() }) },
};
// What our log keeps, this keeps too: so many events, a day. Its streams would end every five minutes otherwise.
const realtime = new Realtime({
  schema,
  redis,
  history: { maxLength, expireAfterSecs: 86_400 },
  maxDurationSecs: 3_600,
});
const stream = handle({ realtime });

async function push(request, response) {
  const parts = [];
  for await (const part of request) parts.push(part);
  const { message } = JSON.parse(Buffer.concat(parts).toString());
  const { emailAddress, historyId } = JSON.parse(Buffer.from(message.data, "base64").toString());
  const data = { id: message.messageId, emailAddress, historyId: String(historyId) };
  await realtime.channel(`gmail:${emailAddress}`).emit("mailbox.changed", data);
  response.writeHead(200, { "Content-Type": "application/json" }).end('{"status":"published"}');
}

async function events(request, response) {
  const left = new AbortController();
  response.on("close", () => left.abort());
  const url = `http://127.0.0.1:${port}${request.url}`;
  const answer = await stream(new Request(url, { headers: request.headers, signal: left.signal }));
  response.writeHead(answer.status, Object.fromEntries(answer.headers));
  response.flushHeaders();
  const reader = answer.body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done || left.signal.aborted) break;
    // A client that reads slowly is waited for.
    if (!response.write(value)) await new Promise((go) => response.once("drain", go).once("close", go));
  }
  response.end();
}

const server = createServer((request, response) => {
  const answered =
    request.method === "POST"
      ? push(request, response)
      : request.url === "/healthz"
        ? response.end("ok")
        : events(request, response);
  Promise.resolve(answered).catch((error) => {
    console.error(error);
    response.destroy();
  });
});
// Connections may rest while something else is measured.
server.keepAliveTimeout = 600_000;
server.headersTimeout = server.requestTimeout = 0;
server.listen({ port, host: "127.0.0.1", backlog: 2048 });
