-- Erase what a topic holds.
--
-- KEYS  1 log   2 last
-- ARGV  1 seconds that `last` is kept
-- Returns how many entries the log held
--
-- `last` stays, for as long as it would have: it is what tells older cursors of a gap. An append that broke off
-- after XADD left the log ahead of it, so it is brought up to the log first.

--@include clock.lua

local last = redis.call('GET', KEYS[2])
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if newest and (not last or below(parse(last), parse(newest[1]))) then
  redis.call('SET', KEYS[2], newest[1], 'EX', tonumber(ARGV[1]))
end
local held = redis.call('XLEN', KEYS[1])
redis.call('DEL', KEYS[1])
return held
