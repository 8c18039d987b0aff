// subscribe and psubscribe of @upstash/redis: one request a channel, its own parser, its own way to leave.
import assert from "node:assert/strict";
import { Inbox, connect, prefix } from "./client.mjs";

const redis = connect();

const news = redis.subscribe([`${prefix}news`, `${prefix}weather`]);
const inbox = new Inbox(news, "subscribe", "message");
assert.deepEqual(await inbox.next(), ["subscribe", 1]);
assert.deepEqual(await inbox.next(), ["subscribe", 1]);
for (const message of ["hello", "with, commas", { a: [1, "ü"] }, 7, ""]) {
  await redis.publish(`${prefix}news`, message);
  assert.deepEqual(await inbox.next(), ["message", { channel: `${prefix}news`, message }]);
}
await redis.publish(`${prefix}weather`, "rain");
assert.deepEqual(await inbox.next(), ["message", { channel: `${prefix}weather`, message: "rain" }]);
assert.deepEqual(news.getSubscribedChannels(), [`${prefix}news`, `${prefix}weather`]);

const live = redis.psubscribe(`${prefix}live:*`);
const patterns = new Inbox(live, "psubscribe", "pmessage");
assert.deepEqual(await patterns.next(), ["psubscribe", 1]);
await redis.publish(`${prefix}live:a`, { n: 1 });
assert.deepEqual(await patterns.next(), [
  "pmessage",
  { pattern: `${prefix}live:*`, channel: `${prefix}live:a`, message: { n: 1 } },
]);

// Many at once come in one piece or in several: each is told, in order.
const burst = redis.pipeline();
for (let number = 0; number < 500; number += 1) burst.publish(`${prefix}news`, number);
await burst.exec();
for (let number = 0; number < 500; number += 1) {
  assert.deepEqual(await inbox.next(), ["message", { channel: `${prefix}news`, message: number }]);
}

await news.unsubscribe([`${prefix}weather`]);
await redis.publish(`${prefix}news`, "still here");
assert.deepEqual(await inbox.next(), ["message", { channel: `${prefix}news`, message: "still here" }]);
await news.unsubscribe();
await live.unsubscribe();

// A "/" in a name is not encoded by this client, and so names two channels.
const split = redis.subscribe(`${prefix}a/${prefix}b`);
const both = new Inbox(split, "subscribe", "message");
assert.deepEqual(await both.next(), ["subscribe", 1]);
assert.deepEqual(await both.next(), ["subscribe", 2]);
await redis.publish(`${prefix}b`, "hello");
assert.deepEqual(await both.next(), ["message", { channel: `${prefix}b`, message: "hello" }]);
await split.unsubscribe();

const refused = new Inbox(connect({ token: "wrong" }).subscribe(`${prefix}news`));
const [type, error] = await refused.next();
assert.equal(type, "error");
assert.match(String(error), /WRONGPASS/);
