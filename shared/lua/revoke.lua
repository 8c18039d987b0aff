-- Revoke every token that a user has now.
--
-- KEYS  1 revoked (sorted set: user -> moment of revocation in ms)
-- ARGV  1 user (hash)   2 time in ms, '' for the server's   3 ms kept: as long as a token can live
-- Returns the moment of revocation in ms
--
-- Moments rise strictly, also when the server's clock jumps back: whoever has seen all up to one of them asks for
-- what comes after it, and misses none.

--@include clock.lua

local time_ms, keep_ms = now_ms(ARGV[2]), tonumber(ARGV[3])
local newest = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2]
local moment = time_ms
if newest and tonumber(newest) >= moment then moment = tonumber(newest) + 1 end
local text = string.format('%.0f', moment)
redis.call('ZADD', KEYS[1], text, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', moment - keep_ms))
redis.call('PEXPIRE', KEYS[1], keep_ms)
return text
