-- See how far the log is, and what a live feed may have said that was not heard.
--
-- KEYS  1 clock   2 born   3 revoked   4 slots taken away   then acks that somebody waits for
-- ARGV  1 highest position the caller has seen   2 time in ms, '' for the server's
--       3 list what was revoked after this moment in ms   4 how many of those at most
--       5 list the slots taken away after this moment in ms, '' for none   6 how many of those at most
-- Returns {clock, born, time in ms, {user, moment, ...}, {"<connection> <reason>", moment, ...}, {cursor or '', ...}}
--
-- Four billed commands, five with slots.

--@include clock.lua

local acks = #KEYS - 4
local keys = {KEYS[1], KEYS[2]}
for n = 1, acks do keys[n + 2] = KEYS[n + 4] end
local held = redis.call('MGET', unpack(keys))
local time_ms = now_ms(ARGV[2])
local clock, born = wind(KEYS[1], held[1], KEYS[2], held[2], ARGV[1], time_ms)

local function after(key, moment, most)
  return redis.call('ZRANGEBYSCORE', key, '(' .. moment, '+inf', 'WITHSCORES', 'LIMIT', 0, most)
end

local revoked, lost, cursors = after(KEYS[3], ARGV[3], ARGV[4]), {}, {}
if ARGV[5] ~= '' then lost = after(KEYS[4], ARGV[5], ARGV[6]) end
for n = 1, acks do cursors[n] = held[n + 2] or '' end
return {text_of(clock), text_of(born), time_ms, revoked, lost, cursors}
