-- Keep the cursor that a client has acknowledged; it never moves backwards.
--
-- KEYS  1 clock   2 born   3 ack   4 revoked
-- ARGV  1 highest position the caller has seen   2 time in ms, '' for the server's   3 cursor   4 seconds kept
--       5 user (hash)   6 moment in ms at which the token was issued
-- Returns {the cursor now kept, '' if the one given lies beyond the clock; clock},
--       or {'revoked', clock} if the token was

--@include clock.lua

local held = redis.call('MGET', KEYS[1], KEYS[2], KEYS[3])
local clock = wind(KEYS[1], held[1], KEYS[2], held[2], ARGV[1], now_ms(ARGV[2]))
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
if kept and not below(clock, kept) then cursor = highest(cursor, kept) end
redis.call('SET', KEYS[3], text_of(cursor), 'EX', tonumber(ARGV[4]))
return {text_of(cursor), text_of(clock)}
