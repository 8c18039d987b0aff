-- Append one event to its topic's log, once per dedupe key, and announce it on the live feed.
--
-- KEYS  1 clock   2 born   3 log (stream)   4 last (position of the topic's last event)   5 seen (dedupe key)
-- ARGV  1 highest position the caller has seen    2 format    3 envelope    4 live channel
--       5 dedupe seconds   6 events kept   7 seconds kept   8 seconds that `last` is kept
--       9 time in ms, '' for the server's
-- Returns {position, '1' if it was there before else '0', clock}
--
-- Lua does not roll back: whatever fails must leave nothing behind that says "done". So the dedupe key comes
-- last, and an entry whose append breaks off is taken out again. The clock comes before the entry: a position
-- that failed is never given out a second time. All arguments are read before the first write.

--@include clock.lua

local dedupe_s, keep_events, keep_s, keep_last_s =
  tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local held = redis.call('MGET', KEYS[1], KEYS[2], KEYS[4], KEYS[5])
local time_ms = now_ms(ARGV[9])
local clock, born = wind(KEYS[1], held[1], KEYS[2], held[2], ARGV[1], time_ms)

if held[4] then
  return {held[4], '1', text_of(clock)}
end

-- Never below born: whoever is proven up to less has to read, and so hears of the gap before this event.
local last = highest(held[3] and parse(held[3]) or {0, 0}, born)

local function add()
  local id = highest(highest({time_ms, 0}, next_of(clock)), next_of(last))
  redis.call('SET', KEYS[1], text_of(id))
  return id, redis.pcall('XADD', KEYS[3], 'MAXLEN', keep_events, text_of(id),
    'f', ARGV[2], 'p', text_of(last), 'e', ARGV[3])
end

local id, added = add()
if type(added) == 'table' and added.err and string.find(added.err, 'equal or smaller', 1, true) then
  -- An append that broke off after XADD left the log ahead of `last`: the log is right.
  local newest = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)[1]
  if newest then
    last = parse(newest[1])
  else
    -- Empty, a stream still remembers its highest id; one that a lost clock has fallen behind is begun anew.
    redis.call('DEL', KEYS[3])
  end
  id, added = add()
end
if type(added) == 'table' and added.err then
  return redis.error_reply(added.err)
end

local position = text_of(id)
for _, step in ipairs({
  {'XTRIM', KEYS[3], 'MINID', string.format('%.0f', time_ms - keep_s * 1000)},
  {'EXPIRE', KEYS[3], keep_s},
  -- `last` outlives the log.
  {'SET', KEYS[4], position, 'EX', keep_last_s},
  {'PUBLISH', ARGV[4], ARGV[2] .. ' ' .. text_of(last) .. ' ' .. position .. ' ' .. ARGV[3]},
  {'SET', KEYS[5], position, 'EX', dedupe_s},
}) do
  local done = redis.pcall(unpack(step))
  if type(done) == 'table' and done.err then
    -- It will be sent again: without this there would be two of it, and the first in nobody's `prev`.
    if redis.pcall('XDEL', KEYS[3], position) == 1 then
      if held[3] then
        redis.pcall('SET', KEYS[4], held[3], 'EX', keep_last_s)
      else
        redis.pcall('DEL', KEYS[4])
      end
    end
    return redis.error_reply(done.err)
  end
end
return {position, '0', position}
