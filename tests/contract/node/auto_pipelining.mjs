// Calls made in one tick leave as one /pipeline request, which is what the client does unless told otherwise.
// Writes and reads go separately, and so have no order among them: hence the two steps.
import assert from "node:assert/strict";
import { connect, prefix } from "./client.mjs";

const redis = connect();
const numbers = Array.from({ length: 50 }, (_, index) => index);
const written = await Promise.all(numbers.map((number) => redis.set(`${prefix}${number}`, number)));
assert.deepEqual(written, numbers.map(() => "OK"));
assert.deepEqual(await Promise.all(numbers.map((number) => redis.get(`${prefix}${number}`))), numbers);

// One that fails does not take the others of its request with it.
const settled = await Promise.allSettled([redis.lpush(`${prefix}0`, "x"), redis.incr(`${prefix}1`)]);
assert.match(String(settled[0].reason), /WRONGTYPE/);
assert.deepEqual(settled[1], { status: "fulfilled", value: 2 });
