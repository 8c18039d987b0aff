// Commands of every type through @upstash/redis, with and without base64, and the errors it throws.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { connect, prefix } from "./client.mjs";

const awkward = ["", "OK", "grüß 日本語 😀", "a\nb\r\n", "\0", "with, comma", "T0s=", "x".repeat(100_000)];

for (const responseEncoding of ["base64", false]) {
  const redis = connect({ responseEncoding, enableAutoPipelining: false });
  const key = `${prefix}${responseEncoding}`;

  assert.equal(await redis.set(key, "value", { ex: 100 }), "OK");
  assert.equal(await redis.get(key), "value");
  assert.equal(await redis.get(`${key}:none`), null);
  for (const value of awkward) {
    await redis.set(key, value);
    assert.equal(await redis.get(key), value);
  }
  for (const value of [7, 1.5, true, false, { a: [1, "ü", null] }, [1, 2]]) {
    await redis.set(key, value);
    assert.deepEqual(await redis.get(key), value);
  }

  assert.equal(await redis.hset(`${key}:h`, { a: 1, b: "two", c: { d: true } }), 3);
  assert.deepEqual(await redis.hgetall(`${key}:h`), { a: 1, b: "two", c: { d: true } });
  assert.equal(await redis.rpush(`${key}:l`, "a", "b"), 2);
  assert.deepEqual(await redis.lrange(`${key}:l`, 0, -1), ["a", "b"]);
  assert.equal(await redis.sadd(`${key}:s`, "a", "b"), 2);
  assert.deepEqual((await redis.smembers(`${key}:s`)).sort(), ["a", "b"]);
  assert.equal(await redis.zadd(`${key}:z`, { score: 1.5, member: "a" }, { score: 2, member: "b" }), 2);
  assert.deepEqual(await redis.zrange(`${key}:z`, 0, -1, { withScores: true }), ["a", 1.5, "b", 2]);
  assert.equal(await redis.xadd(`${key}:x`, "1-1", { a: "1", b: "ü" }), "1-1");
  assert.deepEqual(await redis.xrange(`${key}:x`, "-", "+"), { "1-1": { a: 1, b: "ü" } });
  assert.deepEqual(await redis.scan(0, { match: `${key}:h`, count: 1_000_000 }), ["0", [`${key}:h`]]);
  assert.equal(await redis.ping(), "PONG");

  const flagged = "#!lua flags=allow-key-locking\nreturn {KEYS[1], ARGV[1], 'OK'}";
  assert.deepEqual(await redis.eval(flagged, ["k"], ["v"]), ["k", "v", "OK"]);
  const script = `${flagged} -- ${key}`;
  const sha1 = createHash("sha1").update(script).digest("hex");
  assert.equal(await redis.scriptLoad(script), sha1);
  assert.deepEqual(await redis.scriptExists(sha1), [1]);
  assert.deepEqual(await redis.evalsha(sha1, ["k"], ["v"]), ["k", "v", "OK"]);
  // createScript().exec tries EVALSHA first and falls back to EVAL on NOSCRIPT.
  assert.deepEqual(await redis.createScript(`${flagged} -- ${key} new`).exec(["k"], ["v"]), ["k", "v", "OK"]);

  const pipeline = redis.pipeline();
  pipeline.set(`${key}:p`, 1);
  pipeline.incr(`${key}:p`);
  pipeline.get(`${key}:p`);
  assert.deepEqual(await pipeline.exec(), ["OK", 2, 2]);
  const transaction = redis.multi();
  transaction.incr(`${key}:p`);
  transaction.hgetall(`${key}:h`);
  assert.deepEqual(await transaction.exec(), [3, { a: 1, b: "two", c: { d: true } }]);

  await assert.rejects(redis.lpush(key, "x"), /WRONGTYPE Operation against a key/);
  await assert.rejects(redis.exec(["BLPOP", key, "0"]), /ERR Command "BLPOP" is not allowed in REST/);
  await assert.rejects(redis.json.get(key), /ERR Command is not available: 'JSON.GET'/);
  const failing = redis.pipeline();
  failing.lpush(key, "x");
  failing.get(`${key}:p`);
  const kept = await failing.exec({ keepErrors: true });
  assert.match(kept[0].error, /^WRONGTYPE/);
  assert.equal(kept[1].result, 3);
}

await assert.rejects(connect({ token: "wrong" }).get("a"), /WRONGPASS invalid or missing auth token/);
