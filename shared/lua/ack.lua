-- Keep the cursor that a client has acknowledged; it never moves backwards.
--
-- KEYS  1 clock   2 born   3 ack   4 revoked   5 slots of the user
-- ARGV  1 highest position the caller has seen   2 time in ms, '' for the server's   3 cursor   4 seconds kept
--       5 user (hash)   6 moment in ms at which the token was issued   7 client   8 what live channels begin with
-- Returns {the cursor now kept, '' if the one given lies beyond the clock; clock},
--       or {'revoked', clock} if the token was
--
-- Five billed commands. If the cursor has moved one more, and another if a stream of this client wants to know.

--@include clock.lua
--@include slot.lua

local held = redis.call('MGET', KEYS[1], KEYS[2], KEYS[3])
local time_ms = now_ms(ARGV[2])
local clock = wind(KEYS[1], held[1], KEYS[2], held[2], ARGV[1], time_ms)
local revoked_at = redis.call('ZSCORE', KEYS[4], ARGV[5])
if revoked_at and tonumber(ARGV[6]) <= tonumber(revoked_at) then
  return {'revoked', text_of(clock)}
end
local cursor = parse(ARGV[3])
if below(clock, cursor) then
  return {'', text_of(clock)}
end
local kept = held[3] and parse(held[3])
-- A kept cursor beyond the clock was acknowledged to a log that has since forgotten it.
if kept and below(clock, kept) then kept = nil end
local moved = not kept or below(kept, cursor)
cursor = moved and cursor or kept
redis.call('SET', KEYS[3], text_of(cursor), 'EX', tonumber(ARGV[4]))
if moved then
  for _, slot in ipairs((slots_in(redis.call('HGETALL', KEYS[5]), time_ms))) do
    if slot.client == ARGV[7] and slot.acks == '1' then
      redis.call('PUBLISH', ARGV[8] .. slot.topic, '!ack ' .. ARGV[5] .. ' ' .. slot.client .. ' ' .. text_of(cursor))
    end
  end
end
return {text_of(cursor), text_of(clock)}
